"""The contract's table: which cases run, and the sentence that refuses the others."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tests.methods.contract.cases import Case
from tests.methods.contract.states import STATES

FILE = Path(__file__).parent / "expected.toml"
NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Rule(BaseModel):
    """Cases that are refused with one sentence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    states: tuple[str, ...]
    methods: tuple[str, ...]
    """Groups or single methods."""
    says: str
    """The refusal: N for a number, MODEL and METHOD for the names."""
    why: str
    families: tuple[str, ...] = ()
    """Only these; by default all of the state's."""
    option: str = ""
    """Only where this option is given."""
    without: tuple[str, ...] = ()
    """Except where one of these options is given."""


class Table(BaseModel):
    """The table as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: dict[str, tuple[str, ...]]
    elsewhere: dict[str, str]
    """Methods that other tests hold to the contract, and these tests."""
    leaves: dict[str, str]
    """The state that a recipe's first step leaves."""
    refused: tuple[Rule, ...]

    def rules(self, case: Case) -> list[Rule]:
        """The rules that a case meets: none, or one."""
        return [rule for rule in self.refused if self._meets(rule, case)]

    def expected(self, case: Case) -> str:
        """The refusal of a case; empty if it runs."""
        rules = self.rules(case)
        return rules[0].says.replace("METHOD", case.method) if rules else ""

    def methods(self) -> list[str]:
        """All methods of the groups."""
        return [method for group in self.groups.values() for method in group]

    def _meets(self, rule: Rule, case: Case) -> bool:
        named = [m for name in rule.methods for m in self.groups.get(name, (name,))]
        return (
            self._state(case) in rule.states
            and case.method in named
            and case.family in (rule.families or (case.family,))
            and (not rule.option or rule.option in case.options)
            and not set(rule.without) & set(case.options)
        )

    def _state(self, case: Case) -> str:
        first = case.state.removeprefix("after ")
        return case.state if case.state in STATES else self.leaves[first]


def plain(sentence: str, model: str) -> str:
    """A refusal with N for every number and MODEL for the model's name."""
    return NUMBER.sub("N", re.sub(rf"\b{re.escape(model)}\b", "MODEL", sentence))


def read(data: Mapping[str, Any] | None = None) -> Table:
    """The table of the file."""
    return Table.model_validate(data or tomllib.loads(FILE.read_text(encoding="utf-8")))


TABLE = read()
