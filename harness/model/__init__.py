"""One view of every family: blocks, matrices, experts as slices, and edits to them.

Imports errors, places, records, reference.
"""
