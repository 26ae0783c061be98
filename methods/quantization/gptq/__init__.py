"""GPTQ: the method, and its pass over the columns of matrices side by side.

Imports harness.method.
"""
