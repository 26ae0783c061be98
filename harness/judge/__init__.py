"""What the records say: against each other, an earlier run, and the papers.

Imports errors, papers, places, plan, records.
"""
