"""Scoring in shared rows against lm-eval as it is: its loader, HFLM and simple_evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from harness.data import DataRoot
from harness.evaluate import scorer
from harness.evaluate.tasks import evaluate_tasks
from tests.evaluate.stock import compare, stock_on

TASKS = ("arc_challenge", "boolq", "hellaswag", "mmlu_anatomy", "piqa", "winogrande")
_DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2")


@pytest.fixture
def stock(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """`simple_evaluate` on the data root as `datasets` itself reads it."""
    return stock_on(root, tmp_path_factory.getbasetemp() / "datasets-cache", monkeypatch)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_in_shared_rows_are_those_of_stock_lm_eval(
    family: str,
    attention: str,
    build: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
    stock: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = build(family, attention=attention)
    theirs = stock(lm, tokenizer, TASKS)
    # Only shared rows may compute: a fallback to stock would compare lm-eval with itself.
    monkeypatch.setattr(HFLM, "_loglikelihood_tokens", None)
    ours = evaluate_tasks(lm, tokenizer, TASKS, data=DataRoot(root))
    assert compare(ours, theirs, TASKS) < 1e-4


def test_few_shot_prompts_are_shared_and_equal(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
    stock: Callable[..., Any],
) -> None:
    theirs = stock(mixtral, tokenizer, ("mmlu_anatomy",), shots=5)
    ours = evaluate_tasks(mixtral, tokenizer, ("mmlu_anatomy",), data=DataRoot(root), shots=5)
    assert ours[0]["mmlu_anatomy"].shots == 5
    assert compare(ours, theirs, ("mmlu_anatomy",)) < 1e-4


def test_requests_longer_than_the_model_are_cut_as_stock_does(
    build: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
    stock: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lm = build("mixtral", max_position_embeddings=32)
    theirs = stock(lm, tokenizer, ("boolq", "hellaswag"))
    ours = evaluate_tasks(lm, tokenizer, ("boolq", "hellaswag"), data=DataRoot(root))
    assert compare(ours, theirs, ("boolq", "hellaswag")) < 1e-4
    assert "boolq: 20 requests cut to the model's 32 tokens" in caplog.text


def test_document_perplexity_is_that_of_stock_lm_eval(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
    stock: Callable[..., Any],
) -> None:
    theirs = stock(mixtral, tokenizer, ("wikitext",))["results"]["wikitext"]
    results, items = evaluate_tasks(mixtral, tokenizer, ("wikitext",), data=DataRoot(root))
    metrics = results["wikitext"].metrics
    assert set(metrics) == {"word_perplexity", "byte_perplexity", "bits_per_byte"}
    for name, value in metrics.items():
        assert value == pytest.approx(theirs[f"{name},none"], rel=1e-5)
    assert results["wikitext"].chance is None
    assert len(items) == 3


def test_generation_is_that_of_stock_lm_eval(
    build: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
    stock: Callable[..., Any],
) -> None:
    lm = build("mixtral", max_position_embeddings=300)
    theirs = stock(lm, tokenizer, ("gsm8k",), limit=2, batch_size=16)
    results, items = evaluate_tasks(lm, tokenizer, ("gsm8k",), data=DataRoot(root), limit=2)
    flexible = [s for s in theirs["samples"]["gsm8k"] if s["filter"] == "flexible-extract"]
    strict = [s for s in theirs["samples"]["gsm8k"] if s["filter"] == "strict-match"]
    assert [item.answer for item in items] == [s["filtered_resps"][0] for s in strict]
    for name in ("exact_match,strict-match", "exact_match,flexible-extract"):
        assert results["gsm8k"].metrics[name] == theirs["results"]["gsm8k"][name]
    assert [i.metrics["exact_match,flexible-extract"] for i in items] == [
        s["exact_match"] for s in flexible
    ]
    assert results["gsm8k"].items == 2


@pytest.mark.parametrize(
    "options",
    [
        {"sliding_window": 16},
        {"head_dim": 8, "rope_parameters": _DYNAMIC},
    ],
)
def test_what_shared_rows_cannot_do_is_left_to_stock(
    options: dict[str, Any],
    build: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
    stock: Callable[..., Any],
) -> None:
    lm = build("mixtral", **options)
    assert not scorer.shareable(lm, 17)
    theirs = stock(lm, tokenizer, ("boolq",), batch_size=16)
    ours = evaluate_tasks(lm, tokenizer, ("boolq",), data=DataRoot(root))
    assert compare(ours, theirs, ("boolq",)) == 0.0


def test_a_window_as_long_as_the_requests_shares_rows(
    build: Callable[..., PreTrainedModel],
) -> None:
    assert scorer.shareable(build("mixtral", sliding_window=16), 16)


def test_half_precision_stays_within_stock_s_own_noise(
    build: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    root: Path,
) -> None:
    lm = build("mixtral", initializer_range=0.1)
    exact = _values(lm, tokenizer, root)
    half = lm.bfloat16()
    shared = _values(half, tokenizer, root)
    stock = _values(half, tokenizer, root, shared=False)
    error = [max(abs(a - b) for a, b in zip(exact, v, strict=True)) for v in (shared, stock)]
    assert error[0] < 2 * error[1]


def _values(lm: PreTrainedModel, tokenizer: Any, root: Path, *, shared: bool = True) -> list[float]:
    _, items = evaluate_tasks(lm, tokenizer, ("boolq",), data=DataRoot(root), shared=shared)
    return [value for item in items for value in item.loglikelihoods or []]
