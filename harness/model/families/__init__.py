"""The model families as data, and the configurations of published models.

Imports disk, errors.
"""
