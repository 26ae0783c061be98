"""Quantization.

Imports errors, method.contract, method.targets, model.
"""
