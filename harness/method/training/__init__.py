"""Training inside a method: a model checked out, adapters, batches of calibration tokens."""
