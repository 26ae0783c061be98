"""Records: the stored result of one cell, its protocol, and the folder that holds the records.

Imports cache, disk, errors, places.
"""
