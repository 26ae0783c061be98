"""Measurements of a loaded model: size, FLOPs, memory, and the machine they were taken on.

Imports calibration, data, disk, errors, intervals, model, records, reference.
"""
