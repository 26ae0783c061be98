"""Training.

Imports calibration, errors, model.
"""
