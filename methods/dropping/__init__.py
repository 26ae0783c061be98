"""Methods that remove MoE layers or whole blocks.

Imports harness.method.
"""
