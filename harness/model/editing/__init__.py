"""Edits carried out: the change that each makes to the modules of a block.

Imports errors, model.families, model.layers, model.quantized, model.shell.
"""
