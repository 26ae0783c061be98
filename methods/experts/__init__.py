"""Methods that remove, skip or merge whole experts.

Imports harness.calibration, harness.method.
"""
