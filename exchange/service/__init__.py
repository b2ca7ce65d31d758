"""Use cases of the exchange; its whole public face."""
