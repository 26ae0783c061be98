"""Data sets by hub id, from a local data root or from the hub.

Imports cache, disk, errors.
"""

from harness.data.root import DataRoot, hub_errors

__all__ = ["DataRoot", "hub_errors"]
