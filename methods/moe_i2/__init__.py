"""MoE-I²: expert pruning between layers and low-rank decomposition within experts.

Imports harness.calibration, harness.method.
"""
