"""Zero-shot tasks through lm-eval, and perplexity with named protocols.

Imports data, errors, records.
"""
