"""Matrices as codes on a grid: their schemes, their packing, and the products that read codes.

Imports cache, disk, errors, places.
"""
