"""Figures, one kind per file; `harness.report.figures.draw` draws all that there are data for.

Imports judge, plan, records, report.board, report.columns, report.footnotes,
report.leaderboard.
"""
