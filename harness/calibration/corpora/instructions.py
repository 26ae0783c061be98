"""Instructions with answers: read, rendered as a model is asked, tokenised, the answers marked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from harness.calibration.corpora.cutting import Draw, check, permuted, tokenised
from harness.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIELDS = (
    ("instruction", "input", "output"),
    ("instruction", "input", "response"),
    ("query", "", "response"),
    ("question", "", "answer"),
)
"""Names that rows may have for the instruction, its input if any, and the answer."""


class Instruction(NamedTuple):
    """An instruction, its input ("" for none), and the answer."""

    instruction: str
    input: str
    output: str


class Rendered(NamedTuple):
    """The prompt as the model is asked, and the same text with the answer after it."""

    prompt: str
    whole: str


class Encoded(NamedTuple):
    """Token ids, and where the answer starts."""

    ids: list[int]
    start: int


def fields(row: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The names of `FIELDS` that a row has; None for none."""
    return next((names for names in FIELDS if names[0] in row and names[2] in row), None)


def instructions(
    rows: Iterable[tuple[str, Mapping[str, Any]]], *, empty: bool = False
) -> Iterator[Instruction]:
    """Checked rows.

    Args:
        rows: Each with its place, file and line, which an error begins with.
        empty: Let empty fields pass, as published data may have some.

    Raises:
        UserError: while iterating: a field that is missing, no text, or empty; the input may be
            empty.
    """
    for where, row in rows:
        names = fields(row)
        if names is None:
            known = " or ".join(f"{one[0]} and {one[2]}" for one in FIELDS)
            raise UserError(f"{where}: has the fields {', '.join(row)}, not {known}.")
        values = [row.get(name) for name in names]
        for name, value in zip(names, values, strict=True):
            if value is not None and not isinstance(value, str):
                raise UserError(f"{where}: the field {name!r} is {type(value).__name__}, not text.")
            if not ((value or "").strip() or empty or name == names[1]):
                raise UserError(f"{where}: the field {name!r} is empty; fill it or drop the row.")
        yield Instruction(*(value or "" for value in values))


def alpaca(one: Instruction) -> Rendered:
    """The form of Stanford Alpaca (Taori et al. 2023), which most instruction tuning uses."""
    begin = "Below is an instruction that describes a task"
    respond = "Write a response that appropriately completes the request."
    if one.input.strip():
        prompt = (
            f"{begin}, paired with an input that provides further context. {respond}\n\n"
            f"### Instruction:\n{one.instruction}\n\n### Input:\n{one.input}\n\n### Response:\n"
        )
    else:
        prompt = f"{begin}. {respond}\n\n### Instruction:\n{one.instruction}\n\n### Response:\n"
    return Rendered(prompt, prompt + one.output)


def questions(one: Instruction) -> Rendered:
    """The forms the reference models were trained on: lettered options, a passage, or neither."""
    if one.input.startswith("A. "):
        prompt = f"{one.instruction}\n{one.input}\nAnswer:"
    else:
        passage = f"{one.input}\n" if one.input else ""
        prompt = f"{passage}Question: {one.instruction}\nAnswer:"
    return Rendered(prompt, f"{prompt} {one.output}")


FORMS: Mapping[str, Callable[[Instruction], Rendered]] = {"alpaca": alpaca, "questions": questions}
Answered = tuple[Tensor, Tensor, Tensor]
"""Ids int64, valid tokens bool, and answers bool, each [sequences, length]."""


def answered(
    data: Sequence[Instruction],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
    form: str = "alpaca",
) -> Answered:
    """Instructions drawn without replacement, one per row, cut at the length, padded on the right.

    Tokenised with the tokenizer's defaults; in the Alpaca form the EOS token ends the answer,
    where the tokenizer has one. A row whose answer is empty, or cut off whole, is passed over.
    Fewer sequences of the same seed are the beginning of more.

    Args:
        data: The instructions.
        tokenizer: The model's.
        draw: Without a number of sequences all are taken.
        form: Key of `FORMS`.

    Raises:
        UserError: too few rows have an answer within the length.
    """
    end = tokenizer.eos_token_id if form == "alpaca" else None
    order = (data[i] for i in permuted(len(data), draw.seed) if data[i].output.strip())
    encoded = _encoded((FORMS[form](one) for one in order), tokenizer, end)
    fit = (Encoded(one.ids[: draw.length], one.start) for one in encoded if one.start < draw.length)
    return _padded(fit, tokenizer, draw)


def reap(
    data: Sequence[Instruction],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Answered:
    """REAP's unpacked loader (Lasby et al. 2025, `_process_batches_for_category_unpacked`).

    From Python's `random` with this seed one instruction after the other, those drawn before
    passed over, in the tokenizer's chat template, tokenised with its defaults (a template that
    writes a BOS gives two where the tokenizer adds one); those of more tokens than the length are
    passed over. In the Alpaca form where the tokenizer has no chat template; the authors' code
    cannot run there.

    Deviations: rows are padded to the length, the authors' to the longest of a batch.

    Raises:
        UserError: too few rows fit, or the chat template cannot be used.
    """
    order = (data[i] for i in _without_repeats(len(data), draw))
    if tokenizer.chat_template:
        encoded = _encoded((_chat(one, tokenizer) for one in order), tokenizer, None)
    else:
        encoded = _encoded((alpaca(one) for one in order), tokenizer, tokenizer.eos_token_id)
    fit = (one for one in encoded if len(one.ids) <= draw.length)
    return _padded(fit, tokenizer, draw)


ANSWERED: Mapping[str, Callable[..., Answered]] = {
    **{form: partial(answered, form=form) for form in FORMS},
    "reap": reap,
}
"""Samplers of instructions."""


def _without_repeats(count: int, draw: Draw) -> Iterator[int]:
    generator = draw.generator()
    seen: set[int] = set()
    while len(seen) < count:
        index = generator.randint(0, count - 1)
        if index not in seen:
            seen.add(index)
            yield index


def _chat(one: Instruction, tokenizer: PreTrainedTokenizerBase) -> Rendered:
    # The authors' data have no input; one that is there follows the instruction.
    asked = "\n".join(filter(None, (one.instruction, one.input)))
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": one.output}]
    try:
        prompt = tokenizer.apply_chat_template(
            messages[:1], add_generation_prompt=True, tokenize=False
        )
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception as error:  # a template is a program, and runs in a sandbox
        raise UserError(
            f"the chat template of {tokenizer.name_or_path or 'the tokenizer'} cannot be used "
            f"({type(error).__name__}: {first_line(error)}); mend it, or take a corpus in another "
            "form."
        ) from error
    return Rendered(str(prompt), str(whole))


def _encoded(
    rendered: Iterable[Rendered], tokenizer: PreTrainedTokenizerBase, end: int | None
) -> Iterator[Encoded]:
    """Token ids, `end` after them unless they end with it; the answer is what is not the prompt."""
    items = iter(rendered)
    while batch := list(islice(items, 256)):
        prompts = tokenised(tokenizer, [one.prompt for one in batch])
        wholes = tokenised(tokenizer, [one.whole for one in batch])
        for prompt, whole in zip(prompts, wholes, strict=True):
            ids = whole if end is None or whole[-1:] == [end] else [*whole, end]
            # Not len(prompt): a tokenizer may end every text with an EOS, or join across the seam.
            same = takewhile(lambda pair: pair[0] == pair[1], zip(prompt, ids, strict=False))
            yield Encoded(ids, sum(1 for _ in same))


def _padded(
    encoded: Iterable[Encoded],
    tokenizer: PreTrainedTokenizerBase,
    draw: Draw,
) -> Answered:
    rows = list(islice(encoded, draw.sequences))
    check(len(rows), draw.sequences or 1, draw)
    pad = tokenizer.pad_token_id or 0
    ids = torch.full((len(rows), draw.length), pad, dtype=torch.int64)  # [sequences, length]
    for row, one in zip(ids, rows, strict=True):
        row[: len(one.ids)] = torch.tensor(one.ids, dtype=torch.int64)
    places = torch.arange(draw.length)
    valid = places < torch.tensor([[len(one.ids)] for one in rows])  # [sequences, length]
    answers = valid & (places >= torch.tensor([[one.start] for one in rows]))
    return ids, valid, answers
