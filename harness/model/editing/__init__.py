"""Edits carried out: the change that each makes to the modules of a block."""
