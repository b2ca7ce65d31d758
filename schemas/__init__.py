"""The words that everybody shares; no behaviour beyond checking."""
