"""Instructions: what is read, how it is asked, and which tokens are the answer."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from harness import reference
from harness.calibration.corpora.cutting import Draw
from harness.calibration.corpora.draw import tokens
from harness.calibration.corpora.instructions import Instruction, alpaca, answered, questions, reap
from harness.data import DataRoot
from harness.errors import UserError

HUB = DataRoot(None)
ROWS = [
    {"instruction": f"What reads token {i}?", "input": "the router" * (i % 2), "output": f"it {i}"}
    for i in range(12)
]
DATA = [Instruction(**row) for row in ROWS]


def decoded(tokenizer: PreTrainedTokenizerFast, ids: Tensor) -> str:
    return str(tokenizer.decode(ids))


def test_the_alpaca_form() -> None:
    # As https://github.com/tatsu-lab/stanford_alpaca documents it.
    assert alpaca(Instruction("Add.", "1 2", "3")).whole == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3"
    )
    assert alpaca(Instruction("Add.", " ", "3")).prompt == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Response:\n"
    )


@pytest.mark.parametrize("form", ["alpaca", "questions"])
def test_answers_are_marked(form: str, tokenizer: PreTrainedTokenizerFast) -> None:
    ids, valid, answers = answered(
        DATA, tokenizer, Draw(sequences=None, length=260, seed=0), form=form
    )
    assert len(ids) == len(DATA)
    seen = set()
    for row, mask, told in zip(ids, valid, answers, strict=True):
        end = "</s>" if form == "alpaca" else ""
        answer = decoded(tokenizer, row[told])
        prompt = decoded(tokenizer, row[mask & ~told])
        one = next(
            d for d in DATA if f" {d.instruction}" in prompt or f"\n{d.instruction}" in prompt
        )
        assert prompt == "<s>" + (alpaca if form == "alpaca" else questions)(one).prompt
        assert answer.strip() == one.output + end
        assert not (told & ~mask).any()
        seen.add(one)
    assert seen == set(DATA), "without replacement"


def test_fewer_are_the_beginning_of_more(tokenizer: PreTrainedTokenizerFast) -> None:
    def draw(sequences: int, seed: int) -> Tensor:
        return answered(DATA, tokenizer, Draw(sequences=sequences, length=260, seed=seed))[0]

    assert torch.equal(draw(5, 3), draw(9, 3)[:5])
    assert not torch.equal(draw(9, 3), draw(9, 4))
    with pytest.raises(UserError, match="gives 12 calibration sequences of 260 tokens and 13"):
        draw(13, 0)


def test_rows_are_cut_and_those_without_an_answer_passed_over(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    short, long = (
        Instruction("a", "", "it reads a token and sends it"),
        Instruction("a" * 99, "", "b"),
    )
    prompt = tokenizer(questions(short).prompt)["input_ids"]
    length = len(prompt) + 2
    ids, valid, answers = answered(
        [short, long], tokenizer, Draw(sequences=None, length=length, seed=0), form="questions"
    )
    assert ids[0, : len(prompt)].tolist() == prompt
    assert valid.all()
    assert answers.tolist() == [[False] * len(prompt) + [True, True]]
    with pytest.raises(UserError, match="gives 0 calibration sequences of 2 tokens and 1"):
        answered([long], tokenizer, Draw(sequences=None, length=2, seed=0))


def chatty(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", template)


@pytest.mark.parametrize("chat", [False, True])
def test_reap(
    chat: bool, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chat:
        chatty(tokenizer, monkeypatch)
    data = [Instruction(f"Say {i}." + " token" * (40 * (i % 3 == 0)), "", "it") for i in range(30)]
    random.seed(42)
    drawn: list[int] = []
    rows: list[list[int]] = []
    length = 330 if not chat else 60
    while len(rows) < 8:
        index = random.randint(0, 29)
        if index in drawn:
            continue
        drawn.append(index)
        one = data[index]
        text = f"[user] {one.instruction}\n[assistant] it\n" if chat else alpaca(one).whole
        ids = tokenizer(text)["input_ids"] + ([] if chat else [tokenizer.eos_token_id])
        if len(ids) <= length:
            rows.append(ids)
    assert any(i % 3 == 0 for i in drawn), "some were too long"
    ids, valid, answers = reap(data, tokenizer, Draw(sequences=8, length=length, seed=42))
    assert [row[mask].tolist() for row, mask in zip(ids, valid, strict=True)] == rows
    for row, told in zip(ids, answers, strict=True):
        assert decoded(tokenizer, row[told]).strip() == ("it" if chat else "it</s>")
    assert not ids[~valid].any()
    with pytest.raises(UserError, match="asked for"):
        reap(data, tokenizer, Draw(sequences=31, length=length, seed=42))


@pytest.mark.parametrize(
    "names", [("instruction", "output"), ("query", "response"), ("question", "answer")]
)
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_a_file_of_ones_own(
    names: tuple[str, str], kind: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = [{names[0]: f"Name {i}.", names[1]: f"it {i}", "source": "me"} for i in range(6)]
    path = tmp_path / f"mine.{kind}"
    text = json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows))
    path.write_text(text)
    ours = tokens(str(path), tokenizer, length=200, data=HUB)
    expected = answered(
        [Instruction(f"Name {i}.", "", f"it {i}") for i in range(6)],
        tokenizer,
        Draw(sequences=None, length=200, seed=0),
    )
    assert torch.equal(ours.input_ids, expected[0])
    assert ours.answers is not None
    assert torch.equal(ours.answers, expected[2])
    assert (ours.sequences, ours.ref) == (6, str(path))
    assert tokens(str(path), tokenizer, sequences=0, length=9, data=HUB).sequences == 0
    # A field that is named makes it text.
    named = tokens(f"{path}#{names[0]}", tokenizer, sequences=1, length=9, data=HUB)
    assert named.answers is None


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"instruction": "a", "output": ""}, "the field 'output' is empty; fill it or drop"),
        ({"instruction": " ", "output": "b"}, "the field 'instruction' is empty"),
        ({"instruction": "a", "output": None}, "the field 'output' is empty"),
        ({"instruction": "a", "output": 3}, "the field 'output' is int, not text"),
        ({"instruction": "a", "input": ["b"], "output": "c"}, "the field 'input' is list"),
        ({"instruction": "a"}, "has the fields instruction, not instruction and output or"),
    ],
)
def test_a_bad_row(
    row: dict[str, Any], sentence: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    good = {"instruction": "a", "input": "", "output": "b"}
    path = tmp_path / "mine.jsonl"
    path.write_text("\n\n".join(json.dumps(one) for one in (good, row)))
    with pytest.raises(UserError) as error:
        tokens(str(path), tokenizer, data=HUB)
    assert str(error.value).startswith(f"{path}:3: {sentence}")
    path = path.with_suffix(".json")
    path.write_text(json.dumps([good, row]))
    with pytest.raises(UserError) as error:
        tokens(str(path), tokenizer, data=HUB)
    assert str(error.value).startswith(f"{path}: item 2: {sentence}")


@pytest.mark.parametrize("name", ["alpaca", "alpaca-gpt4", "metamathqa", "reap"])
def test_corpora_of_a_data_root(
    name: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    from harness.calibration.corpora.draw import CORPORA

    names = ("query", "response") if name == "metamathqa" else ("instruction", "output")
    path = tmp_path / str(CORPORA[name].hub_id) / "data.json"
    path.parent.mkdir(parents=True)
    rows = [{names[0]: f"Name {i}.", names[1]: f"it {i}"} for i in range(6)]
    empty = {names[0]: "Name.", names[1]: ""}  # published data are as they are
    path.write_text(json.dumps([empty, *rows]))
    ours = tokens(name, tokenizer, sequences=6, length=220, data=DataRoot(tmp_path))
    assert ours.answers is not None
    assert ours.attention_mask is not None
    assert ours.input_ids.shape == (6, 220)
    if name != "reap":  # which draws among all
        assert all(2 < int(row.sum()) < 9 for row in ours.answers)
        with pytest.raises(UserError, match="gives 6 calibration sequences of 220 tokens and 7"):
            tokens(name, tokenizer, sequences=7, length=220, data=DataRoot(tmp_path))
    path.write_text(json.dumps([{names[0]: "Name."}]))
    with pytest.raises(UserError, match=f"row 1 of train: has the fields {names[0]}, not"):
        tokens(name, tokenizer, sequences=1, data=DataRoot(tmp_path))


def test_the_reference_models_are_asked_as_they_were_trained() -> None:
    asked = [
        Instruction("what sells Vukis ?", "A. shoes\nB. boats", "B"),
        Instruction("is it true that it jumps ?", "it jumps .", "yes"),
        Instruction("what size is it ?", "", "giant"),
    ]
    assert [questions(one).whole for one in asked] == [
        "what sells Vukis ?\nA. shoes\nB. boats\nAnswer: B",
        "it jumps .\nQuestion: is it true that it jumps ?\nAnswer: yes",
        "Question: what size is it ?\nAnswer: giant",
    ]


def test_shipped_instructions() -> None:
    folder = reference.MODELS["reference/mixtral"]
    if not folder.is_dir() or not (reference.DATA / "instructions.jsonl").is_file():
        pytest.skip("the reference models have not been made")
    shipped = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = tokens("reference-instructions", shipped, data=HUB)
    assert ours.answers is not None
    assert ours.sequences == 1000, "none is too long"
    assert ours.answers.sum(1).min() >= 1
    assert not (ours.input_ids == shipped.unk_token_id).any()
    assert not (ours.input_ids == shipped.eos_token_id).any()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for m in messages",
        "{{ raise_exception('no system turn') }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_chat_template_that_cannot_be_rendered_is_a_sentence(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    chatty = copy.deepcopy(tokenizer)
    chatty.chat_template = template
    with pytest.raises(UserError, match=r"^the chat template of .* cannot be used \(\w+: .*\); me"):
        reap([Instruction("a", "", "b")], chatty, Draw(1, 32, 0))
