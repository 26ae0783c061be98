"""Peers: other compression libraries as methods, each under a Python interpreter of its own.

Imports calibration, disk, errors, export, method, model, places.
"""
