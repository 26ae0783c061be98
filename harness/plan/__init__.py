"""From a TOML file to cells.

Imports cache, calibration, code, data, disk, errors, evaluate, method, model, papers, places,
records, reference.
"""
