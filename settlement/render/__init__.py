"""One batch, shown to people and to banks."""
