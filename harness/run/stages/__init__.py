"""The stages of a cell: compress, evaluate, measure, each where its code begins.

Imports calibration, data, evaluate, measure, method, model, plan, records, run.job, run.ticks.
"""
