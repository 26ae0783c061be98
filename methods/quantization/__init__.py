"""Methods that put weights on a grid of few bits."""
