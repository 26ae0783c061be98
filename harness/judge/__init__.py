"""Judgement of records: against each other, an earlier run, and the papers.

Imports errors, intervals, papers, places, plan, records.
"""
