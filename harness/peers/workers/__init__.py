"""What runs under a peer's interpreter. Imports the peer, torch, transformers and safetensors."""
