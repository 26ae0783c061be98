"""A suite run: cells in processes of their own, from the base model to the record."""
