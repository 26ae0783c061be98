"""MoE-I²: expert pruning between layers and low-rank decomposition within experts."""
