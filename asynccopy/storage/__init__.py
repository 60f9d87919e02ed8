"""Reading file systems, writing stores."""
