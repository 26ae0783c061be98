"""A real language model, SmolLM2-135M-Instruct from a package's GGUF file, and mixtures of it.

Nothing else of moebench needs the packages that this room reads the file with.

Imports disk, errors.
"""
