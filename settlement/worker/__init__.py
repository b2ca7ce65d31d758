"""Timers of the clearing house."""
