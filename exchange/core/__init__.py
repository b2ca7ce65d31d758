"""Rules of rates, quotes and orders: plain values in, plain values out."""
