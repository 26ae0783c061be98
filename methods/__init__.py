"""The compression methods, in folders by what they do; each is one file, or a folder of a few.

They are found by name through entry points, and import `harness.method`; a folder that needs more
says so.
"""
