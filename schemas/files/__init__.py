"""Bytes to records and back, for every file that crosses the boundary."""
