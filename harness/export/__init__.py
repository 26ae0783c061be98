"""Artifacts as checkpoints that other libraries read, and read back before they are named.

Imports errors, model.
"""
