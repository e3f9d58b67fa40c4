"""Qlib's expressions evaluated fast and bit-equal to Qlib; README.md in this folder is the map."""

VERSION = 1
"""To be raised when a value may come out different: columns that were kept are then too old."""
