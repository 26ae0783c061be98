"""The gate's outcomes as a plain table: the same bytes on a terminal and in a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len

from harness.judge.gate import GATE_OUTCOMES, CodeBetween, Gated, Margins
from harness.records.comparing import by_stage
from harness.report.tables.text import MISSING
from harness.words import shown, told

HEADER = ("model", "row", "seeds", "before", "difference", "95 % interval", "ppl", "size", "")


def gate_table(rows: Sequence[Gated], margins: Margins) -> str:
    """Return one line per row, accuracies in points, perplexity and size as new over old."""
    lines = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(cell_len(line[place]) for line in lines) for place in range(len(HEADER))]
    text = ["  ".join(map(_filled, line, widths)).rstrip() for line in lines]
    return "\n".join([*text, "", _summary(rows, margins)]) + "\n"


def code_line(code: CodeBetween) -> str:
    """Return the line on the code between the runs: all modules that differ, by stage."""
    rows = f" Of {code.unknown} rows a run recorded no code." if code.unknown else ""
    if code.modules:
        return f"Code that differs: {told(by_stage(code.modules))}.{rows}\n"
    return f"{'No code is known to differ.' if rows else 'The code is the same.'}{rows}\n"


def _filled(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def _cells(row: Gated) -> tuple[str, ...]:
    difference = row.difference
    return (
        shown(row.model),
        shown(row.row),
        ",".join(map(str, row.seeds)),
        _number(row.before and 100 * row.before, ".1f"),
        _number(difference and 100 * difference.mean, "+.1f"),
        f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]" if difference else MISSING,
        _number(row.perplexity, ".3f"),
        _number(row.size, ".3f"),
        f"{row.outcome} ({told(row.why)})" if row.why else row.outcome,
    )


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _summary(rows: Sequence[Gated], margins: Margins) -> str:
    counts = Counter(row.outcome for row in rows)
    parts = ", ".join(f"{counts[outcome]} {outcome}" for outcome in GATE_OUTCOMES)
    return (
        f"{len(rows)} rows: {parts}. Margins: {100 * margins.accuracy:g} points of accuracy, "
        f"{100 * margins.perplexity:g} % of perplexity, {100 * margins.size:g} % of size."
    )
