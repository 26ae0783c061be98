from __future__ import annotations

import logging
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.task
import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from harness.data import DataRoot
from harness.errors import UserError
from harness.evaluate.tasks import evaluate_tasks, known_tasks
from harness.records.protocol import EIGHT


def test_tasks_are_known_without_importing_torch_or_lm_eval() -> None:
    program = (
        "import sys; from harness.evaluate.tasks import known_tasks; known_tasks(); "
        "print([m for m in ('torch', 'lm_eval', 'datasets', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert {*EIGHT, "arc_easy", "gsm8k", "wikitext", "mmlu_anatomy"} <= set(known_tasks())


def test_a_result_says_what_guessing_would_score(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    results, _ = evaluate_tasks(
        mixtral, tokenizer, ("arc_challenge", "winogrande"), data=DataRoot(root)
    )
    arc, winogrande = results["arc_challenge"], results["winogrande"]
    # Three, four and five choices in turn over ten items; golds A, B, C in turn.
    assert arc.chance == pytest.approx((4 / 3 + 3 / 4 + 3 / 5) / 10)
    assert arc.majority == 0.4
    assert (winogrande.chance, winogrande.majority) == (0.5, 0.7)  # the gold is in the context
    assert (arc.items, arc.shots, arc.version) == (10, 0, "1.0")
    assert arc.data.startswith("allenai/ai2_arc ARC-Challenge sha256:")
    assert arc.seconds > 0


def test_a_group_is_one_result_over_all_its_items(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    add_split: Callable[..., None],
) -> None:
    subjects = [name.removeprefix("mmlu_") for name in _subjects()]
    rng = random.Random(1)
    for number, subject in enumerate(subjects):
        rows = [
            {"question": f"{rng.random()}?", "choices": list("wxyz"), "answer": (number + n) % 4}
            for n in range(1 + number % 3)
        ]
        add_split(tmp_path, "cais/mmlu", subject, "test", rows)
    results, items = evaluate_tasks(mixtral, tokenizer, ("mmlu",), data=DataRoot(tmp_path))
    assert len(subjects) == 57
    assert set(results) == {"mmlu"}
    mmlu = results["mmlu"]
    assert mmlu.items == len(items) == sum(1 + n % 3 for n in range(57))
    assert mmlu.metrics["acc"] == pytest.approx(
        sum(item.metrics["acc"] for item in items) / len(items)
    )
    assert {item.task for item in items} == set(_subjects())
    assert mmlu.chance == 0.25
    golds = [(number + n) % 4 for number in range(57) for n in range(1 + number % 3)]
    assert mmlu.majority == pytest.approx(max(map(golds.count, range(4))) / len(golds))
    assert "57 configs" in mmlu.data


def _subjects() -> list[str]:
    return [name for name in known_tasks() if name.startswith("mmlu_")]


def test_an_item_wanted_twice_is_kept_once(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    _, items = evaluate_tasks(mixtral, tokenizer, ("boolq", "boolq"), data=DataRoot(root))
    assert len(items) == 10


def test_a_limit_holds_for_every_task(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    results, items = evaluate_tasks(
        mixtral, tokenizer, ("boolq", "piqa"), data=DataRoot(root), limit=3
    )
    assert [row.items for row in results.values()] == [3, 3]
    assert len(items) == 6


def test_the_fingerprint_follows_the_evaluated_items(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    def data(limit: int) -> str:
        rows, _ = evaluate_tasks(mixtral, tokenizer, ("boolq",), data=DataRoot(root), limit=limit)
        return rows["boolq"].data

    assert data(3) == data(3) != data(4)


def test_zero_shots_need_no_training_split(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    add_split: Callable[..., None],
) -> None:
    rows = [{"goal": "ka to", "sol1": "mi", "sol2": "ru", "label": 0}]
    add_split(tmp_path, "baber/piqa", "default", "validation", rows)
    root = DataRoot(tmp_path)
    assert evaluate_tasks(mixtral, tokenizer, ("piqa",), data=root)[0]["piqa"].items == 1
    with pytest.raises(UserError, match="unknown split 'train'"):
        evaluate_tasks(mixtral, tokenizer, ("piqa",), data=root, shots=1)


def test_a_task_outside_the_table_is_found_in_lm_eval(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    add_split: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lm_eval.tasks import TaskManager

    folder = Path(lm_eval.api.task.__file__).parents[1] / "tasks" / "sciq"
    small = TaskManager(include_defaults=False, include_path=str(folder))
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda: small)  # the whole index takes 5 s
    row = {"support": "ka", "question": "to", "correct_answer": "mi"}
    row |= {f"distractor{n}": word for n, word in enumerate(("ru", "se", "lon"), 1)}
    add_split(tmp_path, "allenai/sciq", "default", "validation", [row])
    add_split(tmp_path, "allenai/sciq", "default", "test", [row])
    results, _ = evaluate_tasks(mixtral, tokenizer, ("sciq",), data=DataRoot(tmp_path))
    assert results["sciq"].chance == 0.25
    with pytest.raises(UserError, match=r"unknown task 'scik'. Did you mean 'sciq'\?"):
        evaluate_tasks(mixtral, tokenizer, ("scik",), data=DataRoot(tmp_path))


def test_rows_that_do_not_fit_the_task_are_named(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    add_split: Callable[..., None],
) -> None:
    add_split(tmp_path, "baber/piqa", "default", "validation", [{"goal": "ka"}])
    with pytest.raises(UserError, match="the rows for piqa lack what the task reads of them"):
        evaluate_tasks(mixtral, tokenizer, ("piqa",), data=DataRoot(tmp_path))


@pytest.mark.parametrize("label", [-1, 2, None])
def test_an_item_without_a_right_answer_is_named(
    label: int | None,
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    add_split: Callable[..., None],
) -> None:
    rows = [{"question": "ka", "passage": "to", "label": each} for each in (1, label)]
    add_split(tmp_path, "aps/super_glue", "boolq", "validation", rows)
    with pytest.raises(
        UserError, match=r"boolq: the right answer of .* is (-1|2|None), none of its 2"
    ):
        evaluate_tasks(mixtral, tokenizer, ("boolq",), data=DataRoot(tmp_path))


def test_nothing_of_lm_eval_or_of_the_random_states_stays_changed(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    before = _state()
    evaluate_tasks(mixtral, tokenizer, ("boolq",), data=DataRoot(root))
    with pytest.raises(UserError):
        evaluate_tasks(mixtral, tokenizer, ("openbookqa",), data=DataRoot(root))
    assert _state() == before


def _state() -> tuple[Any, ...]:
    return (
        datasets.load_dataset,
        lm_eval.api.task.tqdm,
        lm_eval.api.task.ConfigurableTask.fewshot_docs,
        vars(lm_eval.utils.env).get("from_string"),
        logging.getLogger("lm_eval").level,
        datasets.is_progress_bar_enabled(),
        random.getstate(),
        str(np.random.get_state()),  # noqa: NPY002
        torch.get_rng_state().tolist(),
    )


def test_evaluation_is_quiet_and_tells_its_progress(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[tuple[str, int, int]] = []
    evaluate_tasks(
        mixtral,
        tokenizer,
        ("hellaswag",),
        data=DataRoot(root),
        progress=lambda *step: told.append(step),
    )
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert (told[0], told[-1]) == (("hellaswag", 0, 40), ("hellaswag", 40, 40))
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    assert len(told) > 2


def test_lm_eval_s_own_ways_tell_their_progress_too(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    evaluate_tasks(
        mixtral,
        tokenizer,
        ("hellaswag",),
        data=DataRoot(root),
        progress=lambda *step: told.append(step),
        shared=False,
    )
    assert told == [("hellaswag", done, 40) for done in range(41)]


def test_scores_that_are_not_finite_are_an_error(
    build: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    broken = build("mixtral")
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="boolq: the log-likelihoods of item 0 are not finite"):
        evaluate_tasks(broken, tokenizer, ("boolq",), data=DataRoot(root))


def test_more_shots_than_examples_are_refused_with_their_number(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    with pytest.raises(UserError, match=r"boolq: 100 shots, and it has \d+ examples"):
        evaluate_tasks(mixtral, tokenizer, ("boolq",), data=DataRoot(root), shots=100, limit=5)


def test_a_perplexity_beyond_all_numbers_is_a_sentence(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def overflow(*_: object, **__: object) -> None:
        math.exp(1e6)

    monkeypatch.setattr("lm_eval.evaluator.evaluate", overflow)
    with pytest.raises(UserError, match="boolq: a perplexity is too large for a number"):
        evaluate_tasks(mixtral, tokenizer, ("boolq",), data=DataRoot(root))


def _bare(tokenizer: PreTrainedTokenizerFast, **tokens: str) -> PreTrainedTokenizerFast:
    bare = tokenizer.backend_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=bare, **tokens)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("tokens", [{"eos_token": "</s>"}, {"bos_token": "<s>"}])
def test_a_tokenizer_without_padding_works_and_stays_as_it_was(
    tokens: dict[str, str],
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
) -> None:
    bare = _bare(tokenizer, **tokens)
    expected, _ = evaluate_tasks(mixtral, tokenizer, ("boolq",), data=DataRoot(root))
    computed, _ = evaluate_tasks(mixtral, bare, ("boolq",), data=DataRoot(root))
    assert computed["boolq"].metrics == expected["boolq"].metrics
    assert bare.pad_token_id is None
    assert len(bare) == len(tokenizer)


def test_without_tasks_lm_eval_s_wrapper_is_not_built(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    # It would refuse this tokenizer, and ties weights.
    assert evaluate_tasks(mixtral, _bare(tokenizer), (), data=DataRoot(root)) == ({}, [])


def test_a_tokenizer_without_any_end_is_refused(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    with pytest.raises(UserError, match="neither a beginning- nor an end-of-sequence token"):
        evaluate_tasks(mixtral, _bare(tokenizer), ("boolq",), data=DataRoot(root))
    no_end = _bare(tokenizer, bos_token="<s>")
    with pytest.raises(UserError, match="no end-of-sequence token, which generation needs"):
        evaluate_tasks(mixtral, no_end, ("gsm8k",), data=DataRoot(root))


def test_generation_needs_room(
    build: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    lm = build("mixtral", max_position_embeddings=256)
    with pytest.raises(UserError, match=r"gsm8k generates up to 256 tokens, .* 256 positions"):
        evaluate_tasks(lm, tokenizer, ("gsm8k",), data=DataRoot(root))


def test_an_answer_longer_than_the_model_is_named(
    build: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast, root: Path
) -> None:
    lm = build("mixtral", max_position_embeddings=4)
    with pytest.raises(UserError, match=r"tokens long, and this model can score between 1 and 4"):
        evaluate_tasks(lm, tokenizer, ("hellaswag",), data=DataRoot(root))


def test_shared_rows_compute_fewer_tokens(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
) -> None:
    seen: list[int] = []
    hook = mixtral.model.embed_tokens.register_forward_hook(
        lambda _module, inputs, _output: seen.append(inputs[0].numel())
    )
    try:
        for shared in (True, False):
            evaluate_tasks(
                mixtral,
                tokenizer,
                ("arc_challenge",),
                data=DataRoot(root),
                shared=shared,
            )
            seen.append(-1)
    finally:
        hook.remove()
    ours, theirs = sum(seen[: seen.index(-1)]), sum(seen[seen.index(-1) + 1 : -1])
    assert ours < 0.6 * theirs
