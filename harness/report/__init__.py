"""Leaderboards, verdicts and figures: everything that is printed or drawn from records.

Imports disk, errors, intervals, judge, plan, records, words.
"""
