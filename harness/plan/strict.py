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
        fault = first_fault(error, form)
        where = f"{source}:{locate.line_of(locate.lines(text), (*at, *fault.place))}"
        raise UserError(f"{where}: {what}{fault.text}.") from None
