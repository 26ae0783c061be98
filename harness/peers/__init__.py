"""Other libraries as methods, each under an interpreter of its own.

Imports calibration, errors, export, method, model, places.
"""
