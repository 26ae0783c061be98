"""One view of every family: blocks, matrices, experts as slices, and edits to them.

Imports cache, disk, errors, places, records, reference.
"""
