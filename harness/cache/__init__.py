"""Files that spare work: written whole, checked when they are read, made again where damaged.

Imports disk, errors, places.
"""
