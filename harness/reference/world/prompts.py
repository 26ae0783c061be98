"""Task records as lm-eval's own definitions prompt them, for training and for quick scores."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.reference.world.subjects import title
from harness.reference.world.words import LETTERS

ItemFields = dict[str, Any]


class Prompt(NamedTuple):
    """Contexts and continuations of one item; the gold pair has the highest likelihood."""

    contexts: list[str]
    continuations: list[str]
    gold: int

    @property
    def answer(self) -> tuple[str, str]:
        """The gold context and continuation."""
        return self.contexts[self.gold], self.continuations[self.gold]


def prompt(task: str, record: ItemFields) -> Prompt:
    """The prompt of a record of `task`."""
    return _PROMPTS[task](record)


def _same(context: str, choices: list[str], gold: int) -> Prompt:
    return Prompt([context] * len(choices), [f" {c}" for c in choices], gold)


def _arc(r: ItemFields) -> Prompt:
    labels, texts = r["choices"]["label"], r["choices"]["text"]
    return _same(f"Question: {r['question']}\nAnswer:", texts, labels.index(r["answerKey"]))


def _openbookqa(r: ItemFields) -> Prompt:
    labels, texts = r["choices"]["label"], r["choices"]["text"]
    return _same(r["question_stem"], texts, labels.index(r["answerKey"]))


def options(r: ItemFields) -> str:
    """An MMLU record's question and lettered choices."""
    lines = "\n".join(f"{a}. {c}" for a, c in zip(LETTERS, r["choices"], strict=True))
    return f"{r['question'].strip()}\n{lines}\nAnswer:"


def description(subject: str) -> str:
    """The line lm-eval puts before the questions of a subject."""
    return f"The following are multiple choice questions (with answers) about {title(subject)}.\n\n"


def _mmlu(r: ItemFields) -> Prompt:
    return _same(description(r["subject"]) + options(r), list(LETTERS), r["answer"])


def _piqa(r: ItemFields) -> Prompt:
    return _same(f"Question: {r['goal']}\nAnswer:", [r["sol1"], r["sol2"]], r["label"])


def _boolq(r: ItemFields) -> Prompt:
    return _same(f"{r['passage']}\nQuestion: {r['question']}?\nAnswer:", ["no", "yes"], r["label"])


def _rte(r: ItemFields) -> Prompt:
    context = f"{r['sentence1']}\nQuestion: {r['sentence2']} True or False?\nAnswer:"
    return _same(context, ["True", "False"], r["label"])


def _hellaswag(r: ItemFields) -> Prompt:
    context = f"{r['activity_label']}: {r['ctx_a']} {r['ctx_b'].capitalize()}"
    return _same(context, r["endings"], int(r["label"]))


def _winogrande(r: ItemFields) -> Prompt:
    before, after = r["sentence"].split("_")
    contexts = [before + r["option1"], before + r["option2"]]
    return Prompt(contexts, [" " + after.strip()] * 2, int(r["answer"]) - 1)


_PROMPTS = {
    "arc_challenge": _arc,
    "arc_easy": _arc,
    "boolq": _boolq,
    "hellaswag": _hellaswag,
    "mmlu": _mmlu,
    "openbookqa": _openbookqa,
    "piqa": _piqa,
    "rte": _rte,
    "winogrande": _winogrande,
}
TASKS = tuple(_PROMPTS)
