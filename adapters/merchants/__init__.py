"""One folder for each merchant; nobody imports one by name."""
