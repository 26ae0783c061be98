"""Figures, one kind per file, and what they share; `canvas` draws those that there are data for.

Imports intervals, judge, plan, records, report.board, report.columns, report.footnotes,
report.leaderboard.
"""
