"""JSON over HTTP whose outcome comes later, by a signed callback; described by a mapping file."""
