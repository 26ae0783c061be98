"""The harness of moebench: it runs compression methods under one protocol and knows none by name.

Its rooms stand in one order; docs/design.md has it. What lies here beside them serves every room:
`errors`, sentences for users; `intervals`, how sure a number is; `places`, where data and caches
are.

Importing this package must stay cheap: no torch, no transformers.
"""
