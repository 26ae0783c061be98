"""Training documents as parts of text with a loss weight each."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """A piece of a document: its text, the weight of its tokens in the loss, and its role."""

    text: str
    weight: float
    answer: bool = False


Document = list[Part]


def text(value: str) -> Part:
    """Plain text, learned in full."""
    return Part(value, 1.0)


def ask(value: str) -> Part:
    """A question or another prompt that only has to be read."""
    return Part(value, 0.2)


def given(value: str) -> Part:
    """A statement with invented values: read, never learned."""
    return Part(value, 0.0)


def answer(value: str) -> Part:
    """The text that evaluation scores."""
    return Part(value, 5.0, answer=True)
