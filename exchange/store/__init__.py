"""SQL of quotes and orders."""
