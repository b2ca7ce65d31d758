"""The shop window: quotes, orders, and the hosted programme."""
