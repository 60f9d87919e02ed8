"""Talking to a running daemon: over a Unix socket, over TCP, and by a page in the browser."""
