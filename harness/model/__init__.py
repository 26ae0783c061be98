"""One view of every Mixture-of-Experts family: blocks, matrices, experts as slices."""
