"""JSON over HTTP, described by a mapping file alone."""
