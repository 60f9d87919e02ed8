"""The daemon: mirrors kept equal for months, under a service manager, watched and steered from outside."""
