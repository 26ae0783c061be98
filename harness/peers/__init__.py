"""Peers: other compression libraries as methods, each under a Python interpreter of its own.

Imports cache, calibration, disk, errors, export, method, model, places.
"""
