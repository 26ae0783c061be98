"""A suite run: cells in processes of their own, from the base model to the record.

Imports cache, calibration, data, disk, errors, evaluate, measure, method, model, places, plan,
records, report.
"""
