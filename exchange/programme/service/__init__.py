"""Use cases of the hosted programme."""
