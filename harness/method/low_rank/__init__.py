"""Low rank.

Imports calibration, errors, model.
"""
