"""What keeps personal data closed: the master key, and what is sealed under keys that it wraps."""
