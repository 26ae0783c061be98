"""Methods that set single weights to zero.

Imports harness.method.
"""
