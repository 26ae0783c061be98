"""Programs run by a peer's interpreter; they import that peer, torch, transformers, safetensors.

Imports no other room.
"""
