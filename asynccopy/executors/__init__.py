"""Where copies run."""
