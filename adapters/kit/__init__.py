"""What every adapter is built on and tested with."""
