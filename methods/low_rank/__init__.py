"""Methods that replace matrices by products of two thin ones.

Imports harness.method.
"""
