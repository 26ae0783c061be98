"""What the records say: against each other, an earlier run, and the papers."""
