"""What methods are made of: the contract, counts and targets, grids and factors.

Imports calibration, errors, model.
"""
