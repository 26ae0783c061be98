"""How much faster the exact searches are than the straightforward ones; run by `make bench`."""
