"""Report.

Imports errors, judge, plan, records.
"""
