"""Rules of members, lots and expiry: plain values in, plain values out."""
