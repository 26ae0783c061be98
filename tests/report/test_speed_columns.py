from __future__ import annotations

from typing import Any

from harness.records.protocol import Protocol
from harness.records.record import Gain, Record, Roofline, Speed, Stock, Throughput, Timing
from harness.records.rows import entries
from harness.report.columns import columns
from harness.report.footnotes import footnotes


def timing(seconds: float, baseline: float) -> Timing:
    return Timing(
        seconds=[seconds],
        cpu_seconds=[seconds],
        baseline_seconds=[baseline],
        baseline_cpu_seconds=[baseline],
        speedup=baseline / seconds,
        low=1.0,
        high=9.0,
    )


def stock(path: str, baseline: float, over: float) -> Stock:
    both = timing(1.0, baseline)
    gain = Gain(speedup=over, low=over - 1, high=over + 1)
    return Stock(
        path=path,
        cache="DynamicCache",
        experts_implementation="eager",
        prefill=both,
        decode=both,
        over_prefill=gain,
        over_decode=gain,
    )


def record(**changes: Any) -> Record:
    speed = Speed(
        length=2048,
        new_tokens=32,
        batch=1,
        prefill=timing(1.0, 2.0),
        decode=timing(1.0, 2.0).model_copy(update={"joules": [3.0, 5.0, 4.0]}),
        cache="StaticCache",
        threads=1,
        experts_implementation="grouped_mm",
        attention_implementation="sdpa",
        dtype="bfloat16",
        device="cuda:0",
        runtime="graph",
        stock=[stock("expert loop", 9.0, 9.0), stock("generate()", 4.0, 4.0)],
        roofline=Roofline(
            bytes_per_step=10,
            parts={"experts": 10},
            context=2064,
            bandwidth=4e12,
            reached=0.4,
            note="2.00 routed experts read per MoE layer and step.",
        ),
    )
    throughput = Throughput(
        prompts=50,
        prompt_tokens=5000,
        new_tokens=512,
        tokens_per_second=20.0,
        baseline_tokens_per_second=16.0,
        speedup=1.25,
        low=1.2,
        high=1.3,
        seconds=[1.0],
        baseline_seconds=[1.25],
        data="alpaca, drawn with seed 0; sha256 00",
    )
    fields: dict[str, Any] = {
        "cell": "c",
        "suite": "s",
        "row": "eep",
        "status": "ok",
        "model": {"ref": "m", "family": "mixtral", "sha256": "0", "label": "m"},
        "recipe": [],
        "seed": 0,
        "protocol": PROTOCOL.sha256,
        "speed": speed,
        "throughput": throughput,
        "created": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
    }
    return Record(**{**fields, **changes})


PROTOCOL = Protocol(tasks=(), average=(), perplexity=(), measure=("speed",))


def test_numbers_beside_our_runtime_have_columns() -> None:
    one = record()
    shown = {c.key: c for c in columns([one], PROTOCOL) if c.shown}
    read = {key: (c.read(one), c.low(one), c.high(one)) for key, c in shown.items()}
    assert read["speed.stock.loop"] == (9.0, 8.0, 10.0)
    assert read["speed.stock.fastest"] == (4.0, 3.0, 5.0)  # the baseline's fastest path
    assert read["throughput.speedup"] == (1.25, 1.2, 1.3)
    assert read["speed.roofline.reached"][0] == 0.4
    assert read["speed.decode.joules"][0] == 4.0


def test_what_was_not_measured_has_none() -> None:
    speed = record().speed
    assert speed is not None
    decode = speed.decode.model_copy(update={"joules": None})
    bare = speed.model_copy(update={"stock": [], "roofline": None, "decode": decode})
    one = record(speed=bare, throughput=None)
    keys = {c.key for c in columns([one], PROTOCOL)}
    assert not any("stock" in k or "roofline" in k or "throughput" in k for k in keys)
    assert "speed.decode.joules" not in keys


def test_footnotes_name_paths_runtime_and_protocol() -> None:
    texts = [note.text for note in footnotes(entries([record()], PROTOCOL), PROTOCOL)]
    joined = " ".join(texts)
    assert "decoding steps replayed as a CUDA graph." in joined
    assert "expert loop (DynamicCache, experts eager) and generate() (DynamicCache" in joined
    assert "(4000.0 to 4000.0 GB/s" in joined
    assert "50 prompts (alpaca, drawn with seed 0), batch 1, greedy, exactly 512" in joined


def test_protocols_that_say_nothing_new_keep_their_hash() -> None:
    """Of the default protocol, as the first records have it."""
    first = "fd73061a56b17419fdd664402a6ab11b7d42910e621c3407f909ab7036300aea"
    assert Protocol().sha256 == first
    assert Protocol(batches=(1, 8)).sha256 != first
    assert Protocol(instruction_tokens=64).sha256 != first
