"""Calibration corpora, and the samplers that cut token sequences from them as papers do.

Imports calibration.tokens, data, disk, errors, reference.
"""
