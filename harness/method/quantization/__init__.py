"""Weights on a grid: options, grids, matrices side by side, errors of outputs."""
