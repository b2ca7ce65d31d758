"""Signed HTTP messages (RFC 9421 with RFC 9530): one fixed profile, the same for every partner."""
