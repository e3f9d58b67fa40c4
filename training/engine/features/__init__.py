"""Qlib's expressions evaluated fast and bit-equal to Qlib; README.md in this folder is the map."""
