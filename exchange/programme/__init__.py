"""The hosted programme, for merchants without a points system."""
