"""Leaderboards, verdicts and figures: everything that is printed or drawn from records.

Imports cache, errors, intervals, judge, plan, records.
"""
