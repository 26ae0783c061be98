"""Quality of a model: tasks through lm-eval, and perplexity on texts given by name.

Imports data, disk, errors, model, records.
"""
