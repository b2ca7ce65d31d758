"""Rules of the books: plain values in, plain values out."""
