"""Models and files: checkpoints opened, artifacts saved, loaded and audited, random weights.

Imports disk, errors, model.checkpoint, model.editing, model.edits, model.families,
model.layers, model.names, model.shell, model.stored, model.tokenizer, model.view, records.
"""
