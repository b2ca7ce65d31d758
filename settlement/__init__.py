"""The clearing house: it owns the books."""
