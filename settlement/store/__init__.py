"""SQL of the books, one module for each table family."""
