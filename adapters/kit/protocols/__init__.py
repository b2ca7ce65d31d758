"""The reusable client of each protocol, driven by a merchant's manifest and mapping."""
