"""The process of a command: whose packages it runs, and the ways in which it ends.

Imports disk, errors.
"""
