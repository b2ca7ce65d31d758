"""SQL of the stores on real servers."""
