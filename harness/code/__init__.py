"""Digests of source code: of the definitions that a function or a class can reach.

Imports cache, errors, places.
"""
