"""SQL of the hosted programme."""
