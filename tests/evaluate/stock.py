"""Stock lm-eval on a data root, and what of it has to be equal to ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import lm_eval.evaluator
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harness.evaluate.lm_eval_tasks import folder_of


def stock_on(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`simple_evaluate` on a data root as `datasets` itself reads it."""
    monkeypatch.chdir(root)  # `datasets` takes "allenai/ai2_arc" for the folder of that name
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda _: None)  # seconds of it

    def run(
        lm: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        tasks: tuple[str, ...],
        *,
        shots: int = 0,
        limit: int | None = None,
        batch_size: int = 4,
    ) -> Any:
        model = HFLM(
            pretrained=lm, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32"
        )
        manager = TaskManager(
            include_defaults=False, include_path=sorted({str(folder_of(task)) for task in tasks})
        )
        return lm_eval.simple_evaluate(
            model, tasks=list(tasks), num_fewshot=shots, limit=limit, task_manager=manager
        )

    return run


def compare(ours: tuple[Any, Any], theirs: Any, tasks: tuple[str, ...]) -> float:
    """Everything but the log-likelihoods is equal; returns their largest difference."""
    results, items = ours
    worst = 0.0
    for task in tasks:
        row, samples = theirs["results"][task], theirs["samples"][task]
        for name, value in results[task].metrics.items():
            assert row[f"{name},none"] == value
            assert row[f"{name}_stderr,none"] == results[task].stderr[name]
        mine = [item for item in items if item.task == task]
        assert len(mine) == len(samples)
        for item, sample in zip(mine, samples, strict=True):
            assert (item.item, item.prompt) == (sample["doc_hash"], sample["prompt_hash"])
            assert item.metrics == {name: sample[name] for name in sample["metrics"]}
            values, greedy = zip(*sample["filtered_resps"], strict=True)
            assert item.greedy == list(greedy)
            gaps = (abs(a - b) for a, b in zip(item.loglikelihoods, values, strict=True))
            worst = max(worst, *gaps)
    return worst
