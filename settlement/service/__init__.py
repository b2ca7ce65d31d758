"""Use cases of the clearing house; its whole public face."""
