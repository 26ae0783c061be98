"""Seeded faults: files of every kind spoiled one at a time, and what the verbs then say.

`python -m tests.faults` runs all of them, `--only N` one, and `--write` puts the table of their
outcomes into docs/reliability.md.
"""
