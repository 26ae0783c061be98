"""Models and files: checkpoints opened, artifacts saved, loaded and audited, random weights."""
