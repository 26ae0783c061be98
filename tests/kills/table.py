"""The table of what the kills met, at the end of the tests' output."""

from __future__ import annotations

from collections import Counter

import pytest

NAME = "kill"
"""Name under which a test's report keeps what a kill met."""


def tell(reporter: pytest.TerminalReporter) -> None:
    """Print how many kills met what, where there were some."""
    met = Counter(
        str(told)
        for report in reporter.getreports("passed")
        for name, told in report.user_properties
        if name == NAME
    )
    for told, count in sorted(met.items()):
        reporter.write_line(f"kills: {told:<30} {count:>3}")
