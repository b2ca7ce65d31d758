"""What a running installation needs."""
