"""Signatures over exact bytes, key ids, and the Merkle tree."""
