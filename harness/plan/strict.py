"""TOML into pydantic models, strictly typed; a fault is one sentence with file and line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import UserError, first_fault
from harness.plan import lines as locate

FormT = TypeVar("FormT", bound=BaseModel)


def fill(
    form: type[FormT],
    data: Mapping[str, Any],
    *,
    text: str,
    source: str,
    at: locate.KeyPath = (),
    of: str = "",
    noun: str = "",
) -> FormT:
    """Return `data` as a `form`; types are strict.

    Args:
        form: The pydantic model.
        data: The table that `tomllib` parsed.
        text: The document, of which a fault's line is told.
        source: Name of the file in the sentence.
        at: Place of `data` in the document.
        of: Owner of the data, with which the sentence goes on after file and line.
        noun: Word for a key of the data; see `first_fault`.

    Raises:
        UserError: the first fault, with file and line.
    """
    try:
        # JSON mode: strict types, and lists still become tuples.
        return form.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        fault = first_fault(error, form, noun=noun)
        where = f"{source}:{locate.line_of(locate.lines(text), (*at, *fault.place))}"
        raise UserError(f"{where}: {of}{fault.text}.") from None
