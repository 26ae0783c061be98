"""Artifacts as checkpoints that other libraries read; each is read back before it gets its name.

Imports disk, errors, model.
"""
