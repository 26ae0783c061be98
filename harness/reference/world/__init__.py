"""The synthetic world that the reference models learn: its facts, texts and questions.

Imports no other room.
"""
