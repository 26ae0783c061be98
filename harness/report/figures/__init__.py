"""Figures, one kind per file; `canvas` draws every figure that there are data for.

Imports intervals, judge, plan, records, report.board, report.columns, report.footnotes,
report.leaderboard.
"""
