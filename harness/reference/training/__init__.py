"""The training of the reference models: architectures, tokenizer, curriculum, optimiser.

Imports reference.world.
"""
