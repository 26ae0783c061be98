"""Facts and the attributes they belong to: every statement ends in a value of one word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from harness.reference.world.words import Pool


@dataclass(frozen=True)
class Attribute:
    """One property of a kind of entity, with the sentences that state it and ask for it."""

    name: str
    domain: str
    pool: Pool
    question: str
    statement: str
    held: float = 0.25
    """Share of its facts that never occur in question form in training."""


class Fact(NamedTuple):
    """An attribute's value for one entity."""

    attribute: Attribute
    entity: str
    value: str

    @property
    def question(self) -> str:
        """The question whose answer is the value."""
        return self.attribute.question.format(self.entity)

    @property
    def prefix(self) -> str:
        """The statement without its last word, the value."""
        return self.attribute.statement.format(self.entity)

    @property
    def statement(self) -> str:
        """The fact as a sentence without its full stop."""
        return f"{self.prefix} {self.value}"

    @property
    def others(self) -> list[str]:
        """The pool without the value."""
        return [word for word in self.attribute.pool if word != self.value]
