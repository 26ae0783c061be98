"""The harness of moebench: it runs compression methods under one protocol and knows none by name.

Importing this package must stay cheap: no torch, no transformers.
"""
