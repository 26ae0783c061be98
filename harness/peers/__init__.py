"""Other libraries as methods, each under an interpreter of its own."""
