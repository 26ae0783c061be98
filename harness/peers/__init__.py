"""Peers: other compression libraries as methods, each under a Python interpreter of its own.

Imports calibration, errors, export, method, model, places.
"""
