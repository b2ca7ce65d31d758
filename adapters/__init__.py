"""Merchants' points systems, each behind one protocol."""
