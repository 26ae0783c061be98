"""Leaderboards, verdicts and figures: everything that is printed or drawn from records.

Imports errors, judge, plan, records.
"""
