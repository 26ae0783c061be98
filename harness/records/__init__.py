"""Records: the result of one cell, the protocol it was made under, the folder that holds it.

Imports errors.
"""
