"""Peers: other compression libraries as methods, each under a Python interpreter of its own.

Imports cache, calibration, errors, export, method, model, places.
"""
