"""Size, FLOPs, memory, speed, and the environment they were measured in."""
