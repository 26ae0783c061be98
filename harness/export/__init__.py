"""Artifacts written in the formats of other libraries, each proven by reading it back."""
