"""Leaderboards and plots: pure functions of the records."""
