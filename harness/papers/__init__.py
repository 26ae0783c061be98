"""The numbers that papers printed, as data.

Imports disk, errors.
"""
