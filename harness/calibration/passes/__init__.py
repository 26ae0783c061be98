"""Quantities that need whole passes over a model: importances, saliencies, leave-one-out losses.

Imports calibration.observe, calibration.states, calibration.statistic, calibration.walk, model.
"""
