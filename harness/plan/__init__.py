"""From a TOML file to cells.

Imports calibration, errors, evaluate, method, model, papers, places, records, reference.
"""
