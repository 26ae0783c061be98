"""Methods that put weights on a grid of few bits, among them those of peer libraries.

Imports harness.method, harness.model, harness.peers.
"""
