"""Calibration: tokens, passes over the blocks, and statistics, on which methods base decisions.

Imports cache, code, data, disk, errors, model, reference.
"""
