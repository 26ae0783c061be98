"""Programs for a peer's interpreter; they import it, torch, transformers and safetensors.

Imports no other room.
"""
