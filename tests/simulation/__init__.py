"""Histories that are made up and played against the real writer on the real database."""
