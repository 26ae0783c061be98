"""Calibration: tokens, passes over the blocks, and statistics, on which methods base decisions.

Imports cache, data, errors, model, reference.
"""
