"""Leaderboards, verdicts and figures: everything that is printed or drawn from records.

Imports errors, intervals, judge, plan, records.
"""
