"""The basis of a method's decisions: tokens, walks over the blocks, statistics taken on them.

Imports data, errors, model, reference.
"""
