"""Schema changes, each safe for the running version."""
