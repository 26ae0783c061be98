"""Invented records, and the tables that they must give byte for byte.

`pytest tests/report --update-golden` rewrites the tables; read the difference before committing it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.records.protocol import Protocol
from harness.records.record import Record

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/report/golden")


@pytest.fixture
def protocol() -> Protocol:
    tasks = ("arc_challenge", "boolq", "rte")
    return Protocol(tasks=tasks, average=tasks, perplexity=("wikitext2",), dtype="float32")


@pytest.fixture
def records(protocol: Protocol) -> list[Record]:
    texts = [path.read_text() for path in sorted((HERE / "records").glob("*.json"))]
    parsed = [Record.model_validate_json(text) for text in texts]
    return [record.model_copy(update={"protocol": protocol.sha256}) for record in parsed]


@pytest.fixture
def golden(request: pytest.FixtureRequest, protocol: Protocol) -> Callable[[str, str], None]:
    """Compare a text with the golden file of that name, or write it."""

    def check(name: str, text: str) -> None:
        # The protocol's hash changes with every field that it gains.
        text = text.replace(protocol.sha256[:12], "0" * 12)
        path = HERE / "golden" / name
        if request.config.getoption("--update-golden", default=False):
            path.write_text(text)
        assert text == path.read_text()

    return check
