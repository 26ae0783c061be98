"""What methods look at: tokens, the walk over the blocks, statistics taken on it."""
