"""Methods that remove, skip or merge whole experts."""
