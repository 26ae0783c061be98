"""Errors in words of our own: none of a library's reaches the user."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import harness
import methods
from harness.errors import first_fault, first_line, unknown


@pytest.mark.parametrize(
    ("message", "line"),
    [("Broken.\nfor many\nreasons", "Broken"), ("\n\nLate!", "Late"), ("", "OSError")],
)
def test_the_first_line_has_no_full_stop(message: str, line: str) -> None:
    assert first_line(OSError(message)) == line


def test_where_nothing_is_known_no_empty_list_is_shown() -> None:
    assert str(unknown("method", "eep", [])) == "unknown method 'eep'. There is none at all."

    class Empty(BaseModel):
        model_config = ConfigDict(extra="forbid")

    with pytest.raises(ValidationError) as caught:
        Empty.model_validate({"keep": 1})
    assert first_fault(caught.value, Empty).text == "unknown key 'keep'. There is none at all"


WRONG: tuple[Any, ...] = (
    *(None, True, -1, -(10**9), 10**9, 10**400, 0.5, -1e9, 1e9, 1e400, float("nan")),
    *("", "none of these", "x" * 10_000, "1e400", "\ud800"),
    *([], [None], [[]], ["x"] * 1000, {}, {"none of these": 1}),
)
"""Values that TOML or JSON can hold; most fields refuse most of them, each for its own reason."""


def models() -> list[type[BaseModel]]:
    """Every pydantic model of the harness and of the methods that no other model extends."""
    for package in (harness, methods):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith(("harness.peers.workers", "harness.__main__")):
                importlib.import_module(module.name)
    left, last = [BaseModel], []
    while left:
        form = left.pop()
        extensions = form.__subclasses__()
        left += extensions
        if not extensions and form.__module__.split(".")[0] in ("harness", "methods"):
            last.append(form)
    return last


def faults(form: type[BaseModel]) -> Iterator[tuple[str, Any, ValidationError]]:
    """Field, value and refusal, of every wrong value of every field of a model."""
    for name in form.model_fields:
        for value in WRONG:
            for strict in (False, True):
                try:
                    form.model_validate({name: value}, strict=strict)
                except ValidationError as error:
                    mine = [f for f in error.errors() if f["loc"][:1] == (name,)]
                    if mine:
                        yield name, value, _only(error, mine)


def _only(error: ValidationError, details: list[Any]) -> ValidationError:
    """The refusal of one field alone."""
    lines = [
        {
            "type": line["type"],
            "loc": line["loc"],
            "input": line["input"],
            "ctx": line.get("ctx", {}),
        }
        for line in details
    ]
    return ValidationError.from_exception_data(error.title, lines)  # type: ignore[arg-type]


def test_no_fault_of_any_field_is_told_in_a_library_s_words() -> None:
    kinds = set()
    for form in models():
        for name, value, error in faults(form):
            fault = first_fault(error, form)
            where = f"{form.__name__}.{name} = {value!r:.40}: {fault.text}"
            for line in error.errors():
                kinds.add(line["type"])
                # A value error is a validator's sentence: ours.
                assert line["type"] == "value_error" or line["msg"] not in fault.text, where
                # No file can hold what is an instance; only code gives it.
                assert line["type"] == "is_instance_of" or "cannot be" not in fault.text, where
            assert fault.place[0] == name, where
            assert not any("[" in str(part) for part in fault.place), where
            assert "\n" not in fault.text, where
    assert {"literal_error", "greater_than_equal", "less_than", "too_short", "tuple_type"} <= kinds


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = Field(ge=1)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inner: Inner | None = None
    row: str | dict[str, str | float] | None = None
    each: tuple[Inner, ...] = ()
    pair: tuple[int, bool] = (0, False)


@pytest.mark.parametrize(
    ("data", "place", "text"),
    [
        ({"inner": {"size": 0}}, ("inner", "size"), "'size' should be at least 1, not 0"),
        ({"inner": {}}, ("inner", "size"), "'size' is missing"),
        ({"inner": 3}, ("inner",), "'inner' should be a table, not 3"),
        ({"row": 3}, ("row",), "'row' should be text or a table, not 3"),
        ({"row": {"a": []}}, ("row", "a"), "'a' should be text or a number, not []"),
        (
            {"each": [{"size": 1}, {"size": 2, "sice": 3}]},
            ("each", 1, "sice"),
            "unknown option 'sice'. Did you mean 'size'? Known: size",
        ),
        ({"pair": [0, "x"]}, ("pair", 1), "'pair' should be true or false, not \"x\""),
        ([], (), "it should be a table, not []"),
    ],
)
def test_a_fault_has_its_place_in_the_data(data: object, place: object, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(json.dumps(data), strict=True)
    fault = first_fault(caught.value, Outer, noun="option")
    assert fault.place == place
    assert fault.text == (f"option {text}" if text.startswith("'") else text)


def test_text_that_is_no_json() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json('{"row": ')
    assert first_fault(caught.value, Outer).text == "it is not JSON, or is cut short"
