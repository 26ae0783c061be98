"""Modules that take the place of transformers' own in a block that has been edited.

Imports model.families, model.quantized, model.shell.
"""
