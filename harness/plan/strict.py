"""TOML into pydantic models, strictly typed; a fault is one sentence with file and line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from harness.errors import UserError, nearest
from harness.plan import lines as locate

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FormT = TypeVar("FormT", bound=BaseModel)


def fill(
    form: type[FormT],
    data: Mapping[str, Any],
    *,
    text: str,
    source: str,
    at: locate.Path = (),
    what: str = "",
) -> FormT:
    """`data` as `form`, strictly typed; the first fault as one sentence with file and line.

    Args:
        form: The pydantic model.
        data: What TOML gave.
        text: The document, for line numbers.
        source: What errors call the file.
        at: Where in the document `data` stands.
        what: What `data` is, for the sentence.
    """
    try:
        # JSON mode: strict types, and lists still become tuples.
        return form.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        path = (*at, *fault["loc"])
        where = f"{source}:{locate.line_of(locate.lines(text), path)}"
        raise UserError(f"{where}: {what}{_sentence(form, fault)}") from None


def _sentence(form: type[BaseModel], fault: ErrorDetails) -> str:
    *parents, key = fault["loc"] or ("",)
    if fault["type"] == "extra_forbidden":
        known = _fields(form, parents)
        return f"unknown key {key!r}.{nearest(str(key), known)} Known: {', '.join(known)}."
    name = next((part for part in reversed(fault["loc"]) if isinstance(part, str)), "")
    if fault["type"] == "missing":
        return f"{name!r} is missing."
    if fault["type"] == "value_error":
        return f"{fault['msg'].removeprefix('Value error, ')}."
    said = fault["msg"].removeprefix("Input should").strip()
    return f"{name!r} should {said}, not {json.dumps(fault['input'])}."


def _fields(form: type[BaseModel], parents: Sequence[str | int]) -> list[str]:
    """The keys that the table at `parents` may have."""
    for part in parents:
        if isinstance(part, str):
            form = _form_in(form.model_fields[part].annotation) or form
    return list(form.model_fields)


def _form_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((form for part in get_args(annotation) if (form := _form_in(part))), None)
