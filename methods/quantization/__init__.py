"""Methods that put weights on a grid of few bits.

Imports harness.method, harness.model, harness.peers.
"""
