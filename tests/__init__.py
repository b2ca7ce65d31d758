"""Tests; each docstring is the sentence that its test proves."""
