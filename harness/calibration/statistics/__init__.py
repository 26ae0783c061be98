"""Statistics of the tokens that reach a block, taken batch by batch.

Imports calibration.observe, calibration.statistic, errors, model.
"""
