"""`python -m exchange.cli` is `tongdui`."""

from exchange.cli import main

main()
