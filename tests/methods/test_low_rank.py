"""Factors, ranks and the methods that replace matrices by them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, MixtralConfig, PretrainedConfig, Qwen2MoeConfig

from harness.calibration.passes.importance import Importance
from harness.calibration.statistics.inputs import Covariances
from harness.calibration.statistics.routing import TokenCount
from harness.calibration.walk import Calibration
from harness.errors import Refused
from harness.method import apportion
from harness.method.low_rank.whitening import factors, whitening
from harness.method.ranks import RankBudget
from harness.method.recipe import BoundStep, StepReport, compress
from harness.method.registry import build
from harness.model.editing.matrices import Matrix
from harness.model.edits import DropMoE, KeepExperts, LowRank, MergeExperts
from harness.model.view import MoEModel

Tiny = Callable[..., MoEModel]
Calibrate = Callable[..., Calibration]
METHODS = ("svd", "svd-llm", "moe-i2-decompose")


def run(
    model: MoEModel, calibration: Calibration, name: str, options: Mapping[str, Any]
) -> StepReport:
    [report] = compress(model, [BoundStep(build(name, options), calibration)])
    return report


def logits(model: MoEModel) -> Tensor:
    with torch.no_grad():
        return model.lm(torch.arange(20).reshape(2, 10)).logits  # type: ignore[no-any-return]


def expert_parameters(model: MoEModel) -> int:
    return sum(
        matrix.shape[0] * matrix.shape[1]
        for block in model.blocks
        for matrix in block.matrices("experts")
    )


def matrix_and_inputs(outputs: int, inputs: int, tokens: int) -> tuple[Tensor, Tensor]:
    """A random matrix, and inputs whose features differ in scale by a thousand."""
    generator = torch.Generator().manual_seed(outputs + inputs)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    x = torch.randn(tokens, inputs, generator=generator, dtype=torch.float64)
    scales = torch.logspace(-2, 1, inputs, dtype=torch.float64)
    return weight, x * scales[torch.randperm(inputs, generator=generator)]


def error(weight: Tensor, x: Tensor, u: Tensor, v: Tensor) -> float:
    return float(((weight - u @ v) @ x.T).square().sum())


@pytest.mark.parametrize(("outputs", "inputs"), [(12, 16), (16, 12), (14, 14)])
@pytest.mark.parametrize("rank", [1, 5, 11])
def test_the_error_on_the_outputs_is_the_squared_singular_values_left_out(
    outputs: int, inputs: int, rank: int
) -> None:
    weight, x = matrix_and_inputs(outputs, inputs, tokens=100)
    root = whitening(x.T @ x)
    assert root is not None
    left_out = torch.linalg.svdvals(weight @ root)[rank:].square().sum()
    u, v = factors(weight, root, rank)
    assert u.shape == (outputs, rank)
    assert v.shape == (rank, inputs)
    assert error(weight, x, u, v) == pytest.approx(float(left_out), rel=1e-9)
    assert error(weight, x, *factors(weight, None, rank)) > 1.5 * float(left_out)


@pytest.mark.parametrize(("outputs", "inputs"), [(12, 16), (16, 12)])
def test_the_plain_svd_is_the_nearest_matrix(outputs: int, inputs: int) -> None:
    weight, _ = matrix_and_inputs(outputs, inputs, tokens=1)
    u, v = factors(weight, None, 4)
    left_out = torch.linalg.svdvals(weight)[4:].square().sum()
    assert float((weight - u @ v).square().sum()) == pytest.approx(float(left_out), rel=1e-9)
    assert torch.allclose(u.square().sum(0), v.square().sum(1))  # the scale is split evenly


@pytest.mark.parametrize(("outputs", "inputs"), [(12, 16), (16, 12)])
@pytest.mark.parametrize("tokens", [1, 5])
def test_fewer_tokens_than_inputs(outputs: int, inputs: int, tokens: int) -> None:
    """What the tokens span is kept first; full rank loses nothing elsewhere either."""
    weight, x = matrix_and_inputs(outputs, inputs, tokens)
    root = whitening(x.T @ x)
    assert error(weight, x, *factors(weight, root, 6)) < 1e-9 * float((weight @ x.T).square().sum())
    u, v = factors(weight, root, 12)
    assert torch.allclose(u @ v, weight, atol=1e-8)


def test_a_covariance_that_rounding_made_indefinite() -> None:
    weight, x = matrix_and_inputs(12, 16, tokens=5)
    rounded = 1e6 * (x.T @ x).float()
    assert float(torch.linalg.eigvalsh(rounded.double())[0]) < -1e-3
    u, v = factors(weight, whitening(rounded), 6)
    assert error(weight, x, u, v) < 1e-4 * float((weight @ x.T).square().sum())


@pytest.mark.parametrize("scale", [1.0, 1e14])
def test_a_singular_covariance_of_any_size(scale: float) -> None:
    covariance = scale * torch.ones(16, 16, dtype=torch.float64)  # rank 1
    before = covariance.clone()
    root = whitening(covariance)
    assert root is not None
    assert torch.linalg.matrix_norm(root @ root.T - covariance) < 1e-4 * scale
    weight, _ = matrix_and_inputs(12, 16, tokens=1)
    u, v = factors(weight, root, 1)
    assert torch.allclose(
        (u @ v).sum(1), weight.sum(1), rtol=1e-3, atol=1e-3 if scale < 1 else 1e-6
    )
    assert torch.equal(covariance, before)


def test_no_token_a_zero_matrix_and_no_weights() -> None:
    assert whitening(torch.zeros((), dtype=torch.float64).expand(16, 16)) is None
    u, v = factors(torch.zeros(12, 16), None, 3)
    assert torch.equal(u @ v, torch.zeros(12, 16))
    meta = torch.zeros(12, 16, device="meta", dtype=torch.bfloat16)
    u, v = factors(meta, None, 3)
    assert u.is_meta
    assert (u.shape, v.shape, v.dtype) == ((12, 3), (3, 16), torch.bfloat16)
    assert whitening(torch.zeros(16, 16, device="meta")) is None


def test_shares_add_up_within_their_bounds() -> None:
    assert apportion(10, [1, 2, 3, 4], 9) == [1, 2, 3, 4]
    assert apportion(10, [1, 1, 1], 9) == [4, 3, 3]
    assert apportion(20, [1, 1, 100], 10) == [5, 5, 10]
    assert apportion(12, [1e-9, 1, 1], 9) == [1, 6, 5]
    draw = random.Random(0)
    for _ in range(300):
        most, count = draw.randint(1, 3000), draw.randint(1, 60)
        total = draw.randint(count, count * most)
        shares = apportion(total, [draw.random() ** 6 + 1e-9 for _ in range(count)], most)
        assert sum(shares) == total
        assert min(shares) >= 1
        assert max(shares) <= most


def gate(rows: int, columns: int, expert: int = 0) -> Matrix:
    return Matrix(f"experts.{expert}.gate", "experts", "mlp_norm", (rows, columns), expert)


@pytest.mark.parametrize(
    ("shape", "ratio", "rank"),
    [((14336, 4096), 0.357142857, 2048), ((1408, 2048), 0.38636, 512), ((12, 16), 0.5, 3)],
)
def test_ratio_is_the_fraction_of_parameters_removed(
    shape: tuple[int, int], ratio: float, rank: int
) -> None:
    matrix = gate(*shape)
    assert RankBudget(ratio=ratio).even([matrix], where="block 0") == {matrix.name: rank}


def test_svd_llm_cuts_a_ratio_off_as_its_authors_do() -> None:
    rows, columns, ratio = 4096, 14336, 0.2
    method: Any = build("svd-llm", {"ratio": ratio})
    exact = rows * columns * 0.8 / (rows + columns)
    assert exact % 1 > 0.5
    matrix = gate(rows, columns)
    assert method.even([matrix], where="block 0") == {matrix.name: int(exact)}


def test_ranks_are_multiples_and_still_spend_the_budget() -> None:
    matrices = [gate(512, 1024, expert) for expert in range(6)]
    ranks = list(RankBudget(rank=100, multiple=8).even(matrices, where="block 0").values())
    assert ranks == [104, 104, 104, 96, 96, 96]
    spread = RankBudget(rank=100, multiple=16).spread(matrices, [1, 1, 1, 1, 1, 9], where="block 0")
    assert all(rank % 16 == 0 for rank in spread)
    assert 600 - 16 < sum(spread) <= 600
    assert spread[-1] == 336  # the largest multiple of 16 at which factors are smaller


CONFIGS: dict[str, tuple[Callable[[], PretrainedConfig], int]] = {
    "mixtral": (lambda: MixtralConfig(num_hidden_layers=2, num_local_experts=8), 6),
    "qwen": (lambda: Qwen2MoeConfig(num_hidden_layers=2, num_experts=60), 45),
}


@pytest.mark.parametrize(
    ("config", "options", "removed"),
    [
        ("mixtral", {"ratio": 0.357142857}, 51.79),
        ("mixtral", {"rank": 2048}, 51.79),
        ("qwen", {"rank": 512}, 53.98),
        ("qwen", {"ratio": 0.38636}, 53.98),
    ],
)
@pytest.mark.parametrize("ranks", ["importance", "uniform"])
def test_the_papers_expert_parameters_removed(
    config: str, options: dict[str, Any], removed: float, ranks: str, calibration: Calibrate
) -> None:
    """MoE-I² table 1, at the models' real size: a quarter of the experts, then the average rank."""
    make, keep = CONFIGS[config]
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        model = MoEModel(auto.from_config(make()), ref=config, sha256="meta")
    whole = expert_parameters(model)
    for block in model.blocks:
        model.apply(KeepExperts(block=block.index, experts=tuple(range(keep))))
    run(model, calibration(sequences=0), "moe-i2-decompose", {"ranks": ranks, **options})
    assert round(100 * (1 - expert_parameters(model) / whole), 2) == removed


@pytest.mark.parametrize("name", METHODS)
def test_full_rank_gives_the_models_own_logits(
    name: str, family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    model = tiny(family)
    full = 16 if family == "mixtral" else 12
    run(model, calibration(), name, {"rank": full, "larger": True})
    assert {edit.kind for edit in model.edits} == {LowRank.kind}
    assert torch.allclose(logits(model), logits(tiny(family)), atol=1e-4)


@pytest.mark.parametrize("name", ["svd", "svd-llm"])
@pytest.mark.parametrize(
    "targets", [("shared",), ("attention",), ("dense",), ("experts", "shared")]
)
def test_targets(
    name: str, targets: tuple[str, ...], family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    model = tiny(family)
    chosen = {m.name for block in model.blocks for m in block.matrices() if m.part in targets}
    if not chosen:
        with pytest.raises(Refused, match="has no matrices in"):
            run(model, calibration(), name, {"rank": 2, "targets": targets})
        return
    run(model, calibration(), name, {"rank": 2, "targets": targets})
    assert {name for edit in model.edits for name in edit.data()["ranks"]} == chosen
    assert torch.isfinite(logits(model)).all()
    assert not torch.equal(logits(model), logits(tiny(family)))


@pytest.mark.parametrize("name", ["svd", "svd-llm"])
def test_a_dense_models_mlp_is_the_default(name: str, tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("mistral")
    run(model, calibration(), name, {"ratio": 0.5})
    factored = {name for edit in model.edits for name in edit.data()["ranks"]}
    assert factored == {"dense.gate", "dense.up", "dense.down"}
    assert [edit.block for edit in model.edits] == list(model.numbers)


def output_errors(base: MoEModel, changed: MoEModel, tokens: Calibration) -> dict[str, float]:
    """Per expert matrix, its squared error on what it multiplied in the base model."""
    errors = {}
    with torch.no_grad():
        for block in tokens.walk(base):
            sums = block.collect(Covariances("experts")).sums
            other = next(one for one in changed.blocks if one.index == block.index)
            for matrix in block.matrices("experts"):
                name = matrix.name
                u, v = other.weight(f"{name}.u").double(), other.weight(f"{name}.v").double()
                off = block.weight(name).double() - u @ v
                errors[f"{block.index}.{name}"] = float((off @ sums[name].double() * off).sum())
    return errors


@pytest.mark.parametrize("other", ["svd-llm", "moe-i2-decompose"])
def test_whitened_factors_beat_the_plain_svd_on_every_matrix(
    other: str, family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    """What is whitened is what each matrix multiplied in the model as it was, factors in place."""
    plain, whitened = tiny(family), tiny(family)
    run(plain, calibration(), "svd", {"rank": 4})
    options = {"rank": 4, "ranks": "uniform"} if other != "svd-llm" else {"rank": 4}
    run(whitened, calibration(), other, options)
    worse = output_errors(tiny(family), plain, calibration())
    better = output_errors(tiny(family), whitened, calibration())
    assert better.keys() == worse.keys()
    for name, value in better.items():
        assert value <= worse[name] * (1 + 1e-6)
    assert sum(better.values()) < 0.9 * sum(worse.values())


def test_propagate_decides_whose_inputs_are_whitened(tiny: Tiny, calibration: Calibrate) -> None:
    models = {}
    for propagate in ("original", "edited"):
        models[propagate] = tiny("mixtral")
        run(models[propagate], calibration(), "svd-llm", {"rank": 3, "propagate": propagate})
    first, last = [
        torch.equal(*(model.blocks[index].weight("experts.0.gate.u") for model in models.values()))
        for index in (0, 3)
    ]
    assert first
    assert not last


@pytest.mark.parametrize("name", METHODS)
def test_uneven_merged_and_dropped_layers(name: str, tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("qwen2_moe")
    model.apply(KeepExperts(block=0, experts=(0, 1, 3, 5)))
    model.apply(KeepExperts(block=1, experts=(1, 2, 4)))  # as many as top-k
    model.apply(DropMoE(block=2))
    model.apply(
        MergeExperts(block=3, groups=((0, 2), (1, 4, 3), (5,)), weights=((1, 3), (1, 1, 1), (1,)))
    )
    run(model, calibration(), name, {"rank": 4})
    ranks = {edit.block: edit.data()["ranks"] for edit in model.edits if edit.kind == LowRank.kind}
    assert list(ranks) == [0, 1, 3]
    assert {int(name.split(".")[1]) for name in ranks[3]} == {0, 1, 5}
    assert sum(ranks[0].values()) == 4 * 4 * 3
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("svd", {"ratio": 0.5}),
        ("svd-llm", {"ratio": 0.5, "propagate": "edited"}),
        ("moe-i2-decompose", {"rank": 4, "ranks": "uniform"}),
    ],
)
def test_the_dry_run_has_the_same_edits(
    name: str, options: dict[str, Any], family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    dry, real = tiny(family, meta=True), tiny(family)
    run(dry, calibration(sequences=0), name, options)
    run(real, calibration(), name, options)
    assert dry.edits == real.edits


def test_a_dry_run_by_importance_spends_the_same_budget(
    family: str, tiny: Tiny, calibration: Calibrate
) -> None:
    dry, real = tiny(family, meta=True), tiny(family)
    run(dry, calibration(sequences=0), "moe-i2-decompose", {"rank": 4})
    run(real, calibration(), "moe-i2-decompose", {"rank": 4})
    assert expert_parameters(dry) == expert_parameters(real)
    assert {rank for edit in dry.edits for rank in edit.data()["ranks"].values()} == {4}


@pytest.mark.parametrize("name", METHODS)
def test_the_same_factors_every_time(name: str, tiny: Tiny, calibration: Calibrate) -> None:
    one, other = tiny("deepseek_v2"), tiny("deepseek_v2")
    run(one, calibration(padded=True), name, {"rank": 4})
    run(other, calibration(padded=True), name, {"rank": 4})
    assert one.edits == other.edits
    assert torch.equal(logits(one), logits(other))


def test_an_expert_without_tokens_gets_the_plain_svd(tiny: Tiny, calibration: Calibrate) -> None:
    def model() -> MoEModel:
        built = tiny("mixtral")
        gate = built.layer(0).mlp.gate.weight.data
        gate.copy_(torch.tensor([1.0, 2.0, -1.0, -2.0, 0.0, 0.0])[:, None] * gate[:1])
        return built

    plain, whitened, tokens = model(), model(), calibration(sequences=1)
    seen = next(iter(tokens.walk(model()))).collect(TokenCount()).count
    unseen = [expert for expert in range(6) if not int(seen[expert])]
    assert unseen == [4, 5]
    run(plain, tokens, "svd", {"rank": 4})
    run(whitened, calibration(sequences=1), "svd-llm", {"rank": 4})
    for expert in range(6):
        name = f"experts.{expert}.down.u"
        same = torch.equal(plain.blocks[0].weight(name), whitened.blocks[0].weight(name))
        assert same == (expert in unseen)


def planted(losses: Mapping[int, float], base: float) -> Callable[..., Importance]:
    def leave_one_out(model: MoEModel, calibration: Calibration) -> Importance:
        return Importance(base, {block.index: dict(losses) for block in model.moe_blocks()})

    return leave_one_out


LOSSES = {0: 2.0, 1: 2.001, 2: 2.1, 3: 2.5, 4: 1.9, 5: 2.0}


@pytest.mark.parametrize(
    ("importance", "wanted"),
    [
        # 30 ranks in proportion to I^.15, then to (max(I - 2, 0) + 1e-6)^.15
        ("loss", [5, 5, 5, 5, 5, 5]),
        ("increase", [2, 4, 9, 11, 2, 2]),
    ],
)
def test_ranks_follow_importance(
    importance: str,
    wanted: list[int],
    tiny: Tiny,
    calibration: Calibrate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("methods.moe_i2.decompose.leave_one_out", planted(LOSSES, 2.0))
    model = tiny("mixtral")
    options = {"rank": 5, "importance": importance, "larger": True}
    report = run(model, calibration(), "moe-i2-decompose", options)
    notes = {note.name: note.data for note in report.notes}
    assert notes["moe-i2.importance"] == Importance(2.0, dict.fromkeys(range(4), LOSSES)).table()
    assert notes["moe-i2-decompose.ranks"][0] == dict(enumerate(wanted))
    for edit in model.edits:
        ranks = edit.data()["ranks"]
        assert [ranks[f"experts.{e}.down"] for e in range(6)] == wanted
        assert ranks["experts.2.gate"] == ranks["experts.2.up"] == ranks["experts.2.down"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 17}, "rank = 17: experts.0.gate in block 0, 24 x 16, has only rank 16"),
        ({"rank": 10}, "is smaller than its factors of rank 10; lower the rank to 9"),
        ({"ratio": 0.99}, "ratio = 0.99: experts.0.gate in block 0, 24 x 16, would be left with"),
        ({"rank": 4, "multiple": 16}, "leaves no rank to experts.0.gate in block 0"),
        ({"rank": 4, "multiple": 8}, "leaves no rank to experts.0.gate in block 0"),
    ],
)
@pytest.mark.parametrize("name", METHODS)
def test_budgets_that_do_not_fit(
    name: str, options: dict[str, Any], message: str, tiny: Tiny, calibration: Calibrate
) -> None:
    model = tiny("mixtral")
    with pytest.raises(Refused, match=message):
        run(model, calibration(), name, options)
    assert model.edits == ()


@pytest.mark.parametrize("name", METHODS)
def test_a_matrix_is_decomposed_once(name: str, tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("mixtral")
    run(model, calibration(), "svd", {"rank": 4})
    with pytest.raises(Refused, match=r"experts\.0\.gate\.[uv] in block 0.* is a factor already"):
        run(model, calibration(), name, {"rank": 2})


def test_a_model_without_experts_is_refused(tiny: Tiny, calibration: Calibrate) -> None:
    model = tiny("mixtral")
    for block in model.blocks:
        model.apply(DropMoE(block=block.index))
    for name in METHODS:
        with pytest.raises(Refused, match="mixtral has no"):
            run(model, calibration(), name, {"rank": 2})
