"""Zero-shot tasks through lm-eval, and perplexity on named texts.

Imports data, errors, records.
"""
