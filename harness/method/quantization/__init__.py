"""Weights on a grid: options, grids, matrices side by side, errors of outputs.

Imports errors, method.contract, method.targets, model.
"""
