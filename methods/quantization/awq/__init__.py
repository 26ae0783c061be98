"""AWQ: scales that move from inputs into weights, clipped ranges, and rounding.

Imports harness.method, harness.model.
"""
