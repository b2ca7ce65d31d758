"""The HTTP face: it translates, and decides nothing."""
