"""The harness of moebench: it runs compression methods under one protocol and knows none by name.

Its rooms are the folders here; they stand in one order, each imports only rooms further down, and
each docstring ends with those it imports. docs/design.md has the order. What lies here beside them
serves every room: `errors`, sentences for users; `intervals`, how sure a number is; `places`, where
data and caches are.

Importing this package must stay cheap: no torch, no transformers.
"""
