"""The page of the contract: what ran on what, and the sentences that refused the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.methods.contract.cases import FIRST
from tests.methods.contract.outcome import Outcome
from tests.methods.contract.states import STATES
from tests.methods.contract.table import TABLE

PAGE = Path(__file__).parents[3] / "docs" / "contract.md"
COMMAND = "python -m pytest tests/methods -k contract --update-contract"
HEAD = f"""# The contract of methods: what runs on what

Every method is tried on tiny models with random weights in the states that users bring, and as the
second step of recipes. It runs, and leaves a model that saves, loads and gives the same; or it
refuses with one sentence that `tests/methods/contract/expected.toml` knows beforehand. Anything
else fails a test. This page is written from a run of these tests:

```
{COMMAND}
```
"""


def render(outcomes: Sequence[Outcome]) -> str:
    """The page as Markdown."""
    states = [outcome for outcome in outcomes if outcome.state in STATES]
    recipes = [outcome for outcome in outcomes if outcome.state not in STATES]
    notes = _numbered(outcome.refusal for outcome in _ordered(outcomes) if outcome.refusal)
    parts = [
        HEAD,
        f"Of {len(outcomes)} cases {_ran(outcomes)} ran and "
        f"{len(outcomes) - _ran(outcomes)} were refused as the table says:\n"
        f"{_ran(states)} of {len(states)} with one method ran, and "
        f"{_ran(recipes)} of {len(recipes)} recipes of two steps.\n",
        "## States\n",
        _table(("state", "what it is", "families", "cases", "ran", "refused"), _counts(states)),
        "## Methods\n",
        'A number is the sentence of a refusal below; "ok, 3" runs with some options and is '
        "refused with others. Methods that no state tells apart share a row.\n",
        _table(("methods", *STATES), _rows(states, list(STATES), notes)),
        "## Recipes of two steps\n",
        f"The first step is the column, the second the row, on {recipes[0].family}.\n",
        _table(
            ("second step", *(f"after {first}" for first in FIRST)),
            _rows(recipes, [f"after {first}" for first in FIRST], notes),
        ),
        "## Refusals\n",
        "N stands for a number, MODEL for the model's name.\n",
        "\n".join(_note(number, says) for says, number in notes.items()) + "\n",
        "## Elsewhere\n",
        "\n".join(f"- {name}: {test}" for name, test in TABLE.elsewhere.items()) + "\n",
    ]
    return "\n".join(parts)


def _ran(outcomes: Iterable[Outcome]) -> int:
    return sum(not outcome.refusal for outcome in outcomes)


def _ordered(outcomes: Iterable[Outcome]) -> list[Outcome]:
    states, methods = [*STATES, *(f"after {first}" for first in FIRST)], TABLE.methods()
    return sorted(outcomes, key=lambda one: (states.index(one.state), methods.index(one.method)))


def _numbered(sentences: Iterable[str]) -> dict[str, int]:
    """Each sentence once, numbered from 1."""
    return {says: number for number, says in enumerate(dict.fromkeys(sentences), start=1)}


def _note(number: int, says: str) -> str:
    reasons = dict.fromkeys(rule.why for rule in TABLE.refused if rule.says == says)
    return f"{number}. `{says}` {' '.join(reasons)}"


def _counts(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    rows = []
    for name, state in STATES.items():
        here = [outcome for outcome in outcomes if outcome.state == name]
        ran = _ran(here)
        numbers = (len(here), ran, len(here) - ran)
        rows.append((name, state.summary, ", ".join(state.families), *map(str, numbers)))
    return rows


def _rows(
    outcomes: Sequence[Outcome], states: Sequence[str], notes: Mapping[str, int]
) -> list[tuple[str, ...]]:
    """One row for the methods of a group that have the same cells."""
    rows: list[tuple[str, ...]] = []
    for group in TABLE.groups.values():
        alike: dict[tuple[str, ...], list[str]] = {}
        for method in group:
            own = [outcome for outcome in outcomes if outcome.method == method]
            cells = tuple(_cell([o for o in own if o.state == state], notes) for state in states)
            alike.setdefault(cells, []).append(method)
        rows += [(", ".join(methods), *cells) for cells, methods in alike.items()]
    return rows


def _cell(outcomes: Iterable[Outcome], notes: Mapping[str, int]) -> str:
    """Give "ok", the refusals' numbers, or both."""
    numbers = sorted({notes.get(outcome.refusal, 0) for outcome in outcomes})
    return ", ".join(str(number) if number else "ok" for number in numbers)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
