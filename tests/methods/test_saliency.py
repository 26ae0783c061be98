"""The saliencies against a run of every expert on every token, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.calibration.observe import Seen
from harness.calibration.passes.saliency import Saliency, saliencies
from harness.calibration.statistic import Statistic
from harness.calibration.walk import Calibration
from harness.method import highest
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.edits import KeepExperts
from harness.model.view import Block, MoEModel

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("frequency", {}),
    ("ean", {}),
    ("ean", {"statistic": "mean"}),
    ("ean", {"statistic": "weighted"}),
    ("reap", {}),
]


class EveryExpert(Statistic):
    """The definition: all experts on all tokens, then those routed are looked at."""

    def start(self, block: Block) -> None:
        self.rows: list[dict[int, tuple[float, float, float, float]]] = []

    def update(self, seen: Seen) -> None:
        norms = {e: seen.expert(e, seen.x) for e in seen.block.experts}
        for token, chosen in enumerate(seen.index.tolist()):
            total = sum(float(seen.probs[token, e]) for e in chosen)
            row = {}
            for e in chosen:
                p, y = float(seen.probs[token, e]), norms[e][token].double()
                row[e] = (p, p / total, float(y.norm()), float(y.max()))
            self.rows.append(row)


@pytest.mark.parametrize("padded", [False, True])
def test_against_every_expert_on_every_token(
    family: str, padded: bool, tiny: Tiny, calibration: Calibrate
) -> None:
    model = tiny(family)
    model.apply(KeepExperts(block=2, experts=(0, 2, 3, 5)))
    with torch.no_grad():
        for block in calibration(padded=padded).walk(model):
            if not block.experts:
                continue
            every = EveryExpert()
            one = block.collect(Saliency(), every)
            for expert in range(6):
                seen = [row[expert] for row in every.rows if expert in row]
                assert int(one.tokens[expert]) == len(seen)
                wanted = {
                    "norms": sum(norm for _, _, norm, _ in seen),
                    "mass": sum(p for p, _, _, _ in seen),
                    "mass_renormalised": sum(q for _, q, _, _ in seen),
                    "weighted": sum(p * norm for p, _, norm, _ in seen),
                    "weighted_renormalised": sum(q * norm for _, q, norm, _ in seen),
                    "largest": max((0.0, *(largest for _, _, _, largest in seen))),
                }
                ours = {name: float(getattr(one, name)[expert]) for name in wanted}
                assert ours == pytest.approx(wanted, rel=1e-5)


def test_they_come_back_from_the_cache(tiny: Tiny, calibration: Calibrate) -> None:
    with torch.no_grad():
        first = saliencies(tiny("qwen2_moe"), calibration(cache=True))
        again = saliencies(tiny("qwen2_moe"), calibration(cache=True))
    assert first.keys() == again.keys()
    for index, one in first.items():
        assert one.of_experts(one.weighted) == again[index].of_experts(again[index].weighted)
        assert torch.equal(one.tokens, again[index].tokens)


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_the_lowest_scores_go(
    name: str, options: dict[str, Any], family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    model = tiny(family)
    [report] = compress(model, [BoundStep(build(name, {"keep": 4, **options}), calibration())])
    scores = report.notes[0].data
    assert list(scores) == [block.index for block in model.blocks if block.experts]
    for index, layer in scores.items():
        kept = set(model.blocks[index].experts)
        assert len(kept) == 4
        assert min(layer[e] for e in kept) >= max(layer[e] for e in layer.keys() - kept)


@pytest.mark.parametrize(("family", "as_model"), [("mixtral", True), ("qwen2_moe", False)])
def test_reap_renormalises_where_the_model_does(
    family: str, as_model: bool, tiny: Tiny, calibration: Calibrate
) -> None:
    def scores(**options: Any) -> Any:
        method = build("reap", {"keep": 4, **options})
        [report] = compress(tiny(family), [BoundStep(method, calibration())])
        return report.notes[0].data

    assert scores() == scores(renormalise=as_model)
    assert scores() != scores(renormalise=not as_model)


def test_an_expert_without_a_token_goes_first(tiny: Tiny, calibration: Calibrate) -> None:
    for name, options in METHODS:
        model = tiny("mixtral")
        rows = model.layer(1).mlp.gate.weight.data
        # Whatever the sign of the first row's logit, two experts are above expert 3.
        for expert, factor in ((1, 1.1), (3, 0.5), (4, -1.0), (5, -1.1)):
            rows[expert] = factor * rows[0]
        tokens = calibration()
        compress(model, [BoundStep(build(name, {"keep": 5, **options}), tokens)])
        assert int(tokens.coverage[1].count[3]) == 0
        assert 3 not in model.blocks[1].experts


def test_of_a_tie_the_lower_numbers_go() -> None:
    assert highest({0: 1.0, 2: 1.0, 3: 2.0, 5: 1.0}, 3) == (2, 3, 5)
    assert highest({0: 0.0, 1: 0.0}, 2) == (0, 1)
