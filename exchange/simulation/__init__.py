"""Whole histories on virtual time: the real programs on virtual sockets, with faults drawn from a seed."""
