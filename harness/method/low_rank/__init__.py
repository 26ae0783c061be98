"""Matrices as products of two smaller ones: whitening, factors, the edit of a block.

Imports calibration, model.
"""
