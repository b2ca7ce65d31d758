"""Merchants' systems that speak real protocols over real sockets, with their own books and faults."""
