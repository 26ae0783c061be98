"""Speed of a compressed model beside its baseline: runtimes, clocks, ratios, the roofline.

Imports calibration, data, errors, intervals, measure.moe_layers, measure.nvml, model, records,
reference.
"""
