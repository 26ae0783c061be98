"""Figures, one kind per file, and what they share; `canvas` draws those that there are data for.

Imports disk, intervals, judge, plan, records, report.board, report.columns, report.footnotes,
report.leaderboard, words.
"""
