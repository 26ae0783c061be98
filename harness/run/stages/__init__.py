"""The stages of a cell: compress, evaluate, measure, each where its code begins.

Imports nothing.
"""
