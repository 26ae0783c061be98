"""Cases of the contract: a method with options on a family in a state, and recipes of two steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.methods.contract.states import STATES

Options = dict[str, Any]
OPTIONS: dict[str, list[Options]] = {
    "random": [{"keep": 3}, {"ratio": 0.5}],
    "frequency": [{"keep": 4}],
    "ean": [{"keep": 4}, {"keep": 3, "statistic": "mean"}],
    "reap": [{"keep": 4}],
    "eep": [{"keep": 4}, {"keep": 3, "progressive": True}],
    "eep-skip": [{}],
    "moe-i2-prune": [
        {"keep": 4, "population": 6, "iterations": 3},
        {"ratio": 0.3, "layers": "importance", "population": 6, "iterations": 3, "field": 2},
    ],
    "moe-i2-decompose": [{"ratio": 0.4}, {"rank": 4, "importance": "increase", "multiple": 2}],
    "top-loss": [{"keep": 4}],
    "greedy": [{"keep": 4}],
    "finetune": [{"steps": 2, "rank": 2, "batch_size": 4, "learning_rate": 0.01}],
    "expert-drop": [
        {"keep": 4},
        {"ratio": 0.5, "scope": "global"},
        {"keep": 4, "router": "preserve"},
        {"keep": 3, "router": "mask", "rescore": True},
    ],
    "layer-drop": [{"drop": 1}, {"drop": 2, "score": "moe", "rescore": True}],
    "block-drop": [{"drop": 1}, {"drop": 2, "mode": "consecutive"}],
    "m-smoe": [{"keep": 4}],
    "hc-smoe": [{"keep": 4}],
    "svd": [{"ratio": 0.4}],
    "svd-llm": [{"ratio": 0.4, "propagate": "edited"}],
    "wanda": [{"pattern": "2:4", "targets": ["experts", "attention"]}, {"sparsity": 0.5}],
    "sparsegpt": [{"pattern": "2:4", "propagate": "original"}, {"sparsity": 0.5}],
    "magnitude": [{"sparsity": 0.5}],
    "rtn": [{"group": 32}, {"bits": 3, "symmetric": True, "targets": ["experts", "attention"]}],
    "gptq": [{"group": 32, "min_tokens": 1}, {"bits": 8, "group": 0, "act_order": True}],
    "awq": [{"group": 32, "ratios": 5}],
}
"""Options of each method for a whole model of 6 experts per layer."""
REMOVES_EXPERTS = tuple(
    name for name, rows in OPTIONS.items() if any("keep" in options for options in rows)
)
WHOLE = [(name, options) for name, rows in OPTIONS.items() for options in rows]
FIRST: dict[str, Options] = {
    "random": {"ratio": 0.3},
    "hc-smoe": {"ratio": 0.3},
    "svd": {"ratio": 0.4, "multiple": 4},
    "wanda": {"sparsity": 0.33},
    "rtn": {"group": 32},
    "eep-skip": {},
    "layer-drop": {"drop": 1},
    "block-drop": {"drop": 1},
}
"""First steps of the recipes: one method for each kind of edit."""


@dataclass(frozen=True)
class Case:
    """A method on a model of one family.

    The model is in a state, or, in a recipe, as another method left it.
    """

    state: str
    """A name in STATES; in a recipe "after METHOD"."""
    family: str
    method: str
    options: Options

    @property
    def id(self) -> str:
        """The case's name in pytest's output."""
        return "-".join([self.state, self.family, self.method, *map(str, self.options.values())])


def fitted(method: str, options: Options) -> Options:
    """The options for a state whose layers have other numbers of experts.

    A count of experts fits whole models only. Of 4 experts a ratio of 0.3 removes one, which
    leaves as many as the families choose per token.
    """
    if method not in REMOVES_EXPERTS:
        return options
    return {**{name: value for name, value in options.items() if name != "keep"}, "ratio": 0.3}


def _distinct(method: str) -> list[Options]:
    rows: list[Options] = []
    for options in OPTIONS[method]:
        if fitted(method, options) not in rows:
            rows.append(fitted(method, options))
    return rows


def whole(family: str, method: str, options: Options) -> Case:
    """The case of a whole model."""
    return Case("whole", family, method, options)


WHOLE_CASES = [whole(f, *case) for f in STATES["whole"].families for case in WHOLE]
STATE_CASES = [
    Case(state, family, method, options)
    for state, meaning in STATES.items()
    if state != "whole"
    for family in meaning.families
    for method in OPTIONS
    for options in (_distinct(method) if family == meaning.families[0] else _distinct(method)[:1])
]
"""Further options of a method are tried on the first family of a state."""
RECIPE_CASES = [
    Case(f"after {first}", "qwen2_moe", method, fitted(method, OPTIONS[method][0]))
    for first in FIRST
    for method in OPTIONS
]
CASES = [*WHOLE_CASES, *STATE_CASES, *RECIPE_CASES]
