"""Copying one file: cut it, stream it, prove it."""
