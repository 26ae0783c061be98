"""Modules that run in place of transformers' own once edits have changed a block.

Imports model.families, model.quantized, model.shell.
"""
