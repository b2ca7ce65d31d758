"""Queue rows and timers of the exchange."""
