"""Footnotes: the sentences below a leaderboard without which its numbers would mislead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from harness.judge.ours import error_of_score
from harness.records.protocol import Protocol
from harness.records.record import PerplexityResult, Record, Speed, TaskResult, Throughput
from harness.records.rows import Entry, sentence
from harness.report.board import Footnote
from harness.report.columns import (
    AVERAGE,
    DECODE,
    DELTA,
    ENERGY,
    KEPT,
    LOOP,
    PREFILL,
    ROOFLINE,
    STOCK,
    THROUGHPUT,
    peak_memory,
)

REFERENCE = "reference/"
"""The prefix of the models that ship with the package."""

GRAPH = ", decoding steps replayed as a CUDA graph"

PEAKS = {
    "rss_peak": "largest resident set of the whole process, the libraries included",
    "torch_peak": "largest amount allocated by torch on the accelerator, summed over devices",
}


def guessing(result: TaskResult) -> float | None:
    """Accuracy of guessing at a task, 0..1: max(chance, majority); None for generation."""
    return max((x for x in (result.chance, result.majority) if x is not None), default=None)


def at_chance(result: TaskResult) -> bool:
    """True if acc is not above `guessing` by more than two standard errors."""
    level, acc = guessing(result), result.metrics.get("acc")
    if level is None or acc is None:
        return False
    return acc <= level + 2 * error_of_score(result, "acc")


def footnotes(entries: Sequence[Entry], protocol: Protocol) -> tuple[Footnote, ...]:
    """Return the footnotes, in the order of the columns, then those about rows."""
    return (
        *_average(protocol),
        *_limit(protocol),
        *_at_chance(entries),
        *_perplexity(entries, protocol),
        *_flops(entries),
        *_memory(entries),
        *_speed(entries),
        *_beside(entries),
        *_throughput(entries),
        *_references(entries),
        *_random(entries),
        *_seeds(entries),
        *_reasons(entries),
        *_warnings(entries),
    )


def _average(protocol: Protocol) -> Iterator[Footnote]:
    if protocol.average:
        yield Footnote(
            f"Unweighted mean of the acc of {', '.join(protocol.average)}; absent where one of "
            "them is missing. Δ average is its difference to the baseline, kept its share of the "
            "baseline's.",
            (AVERAGE, DELTA, KEPT),
        )


def _limit(protocol: Protocol) -> Iterator[Footnote]:
    if protocol.limit is not None:
        yield Footnote(f"Only the first {protocol.limit} items of each task were evaluated.")


def _at_chance(entries: Iterable[Entry]) -> Iterator[Footnote]:
    for entry in (entry for entry in entries if entry.baseline and entry.ok):
        results = entry.ok[0].tasks
        tasks = [task for task in sorted(results) if at_chance(results[task])]
        if tasks:
            yield Footnote(
                f"The baseline of {entry.model} is not above guessing (the larger of chance and "
                f"majority) by more than two standard errors on {_listed(tasks)}: differences "
                "there say nothing about a method.",
                rows=(entry.id,),
            )


def _perplexity(entries: Sequence[Entry], protocol: Protocol) -> Iterator[Footnote]:
    settings: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
    for entry in entries:
        for name, result in _perplexities(entry, protocol):
            note = f"; {_ended(result.note)}" if result.note else "."
            text = f"windows of {result.length} tokens that do not overlap{note}"
            settings[text][entry.model, name] = None
    for text, pairs in settings.items():
        names = list(dict.fromkeys(name for _, name in pairs))
        models = sorted({model for model, _ in pairs})
        which = f" of {_listed(models)}" if len(settings) > 1 else ""
        columns = tuple(f"perplexity.{name}.value" for name in names)
        yield Footnote(f"Perplexity on {_listed(names)}{which}: {text}", columns)


def _perplexities(entry: Entry, protocol: Protocol) -> Iterator[tuple[str, PerplexityResult]]:
    for record in entry.ok:
        for name in protocol.perplexity:
            if name in record.perplexity:
                yield name, record.perplexity[name]


def _flops(entries: Iterable[Entry]) -> Iterator[Footnote]:
    settings: dict[str, dict[str, None]] = defaultdict(dict)
    for entry in entries:
        for flops in (record.flops for record in entry.ok if record.flops):
            settings[f"{flops.tokens} tokens; {_ended(flops.routing)}"][entry.model] = None
    for text, models in settings.items():
        which = f" of {_listed(list(models))}" if len(settings) > 1 else ""
        yield Footnote(
            f"Multiply-accumulates of one forward pass{which} over {text}", ("flops.macs",)
        )


def _memory(entries: Iterable[Entry]) -> Iterator[Footnote]:
    records = [record for entry in entries for record in entry.ok]
    if any(record.memory_running for record in records):
        kind = peak_memory(records)
        yield Footnote(f"One forward pass, batch 1: {PEAKS[kind]}.", (f"memory_running.{kind}",))


def _speed(entries: Iterable[Entry]) -> Iterator[Footnote]:
    settings: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for entry in entries:
        for text in sorted({_setting(r, r.speed) for r in entry.ok if r.speed}):
            settings[text].append(entry.id)
    for text, rows in sorted(settings.items()):
        # Only where settings differ must the reader know which row had which.
        yield Footnote(text, (PREFILL, DECODE), tuple(rows) if len(settings) > 1 else ())


def _setting(record: Record, speed: Speed) -> str:
    """The sentence about how a speed was measured."""
    environment = record.environment
    named = environment.processor if environment and speed.device == "cpu" else None
    named = environment.device if environment and speed.device != "cpu" else named
    device = f"{speed.device} ({named})" if named and named != speed.device else speed.device
    note = f" {_ended(speed.note)}" if speed.note else ""
    return (
        f"Speed-up over the baseline, repetitions interleaved with the baseline's, with the 95 % "
        f"bootstrap interval: prefill of {speed.length} tokens, {speed.new_tokens} decoded, batch "
        f"{speed.batch}, {speed.cache} cache, experts {speed.experts_implementation}, attention "
        f"{speed.attention_implementation}, {speed.dtype}, {device}, CPU threads: {speed.threads}"
        f"{GRAPH if speed.runtime == 'graph' else ''}.{note}"
    )


def _beside(entries: Iterable[Entry]) -> Iterator[Footnote]:
    """Notes on what stands beside our runtime: the stock paths, the roofline, the energy."""
    speeds = [record.speed for entry in entries for record in entry.ok if record.speed]
    paths: dict[str, None] = {}
    for speed in speeds:
        for stock in speed.stock:
            paths[f"{stock.path} ({stock.cache}, experts {stock.experts_implementation})"] = None
    if paths:
        yield Footnote(
            "Decoding in our runtime over the baseline in transformers' own: "
            f"{_listed(list(paths))}; the faster one of each row's repetitions.",
            (LOOP, STOCK),
        )
    bandwidths = [speed.roofline.bandwidth / 1e9 for speed in speeds if speed.roofline]
    if bandwidths:
        yield Footnote(
            "Roofline: the bytes a decoding step must move over the bandwidth of a copy, measured "
            f"on the same device ({min(bandwidths):.1f} to {max(bandwidths):.1f} GB/s, read and "
            "written bytes both counted), as a share of the measured time.",
            (ROOFLINE,),
        )
    if any(speed.decode.joules for speed in speeds):
        text = (
            "Energy of the accelerators by NVML, per step of the whole batch, idle power included."
        )
        yield Footnote(text, (ENERGY,))


def _throughput(entries: Iterable[Entry]) -> Iterator[Footnote]:
    settings: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for entry in entries:
        for text in sorted({_asked(r.throughput) for r in entry.ok if r.throughput}):
            settings[text].append(entry.id)
    for text, rows in sorted(settings.items()):
        yield Footnote(text, (THROUGHPUT,), tuple(rows) if len(settings) > 1 else ())


def _asked(throughput: Throughput) -> str:
    """The sentence about how EEP's throughput was measured."""
    source = throughput.data.partition("; sha256")[0]
    note = f" {_ended(throughput.note)}" if throughput.note else ""
    return (
        f"EEP's protocol: generate() for {throughput.prompts} prompts ({source}), batch 1, greedy, "
        f"exactly {throughput.new_tokens} new tokens each, prefill included; ratio of new tokens "
        f"per second, with the 95 % bootstrap interval over prompts.{note}"
    )


def _references(entries: Iterable[Entry]) -> Iterator[Footnote]:
    models: dict[str, None] = {}
    for entry in entries:
        info = entry.records[0].model
        shipped = info.label.startswith(REFERENCE) or info.ref.startswith(REFERENCE)
        if shipped and info.weights == "stored":
            models[entry.model] = None
    if models:
        are = "is a small model" if len(models) == 1 else "are small models"
        yield Footnote(
            f"{_listed(list(models))} {are} trained for this package on a synthetic world, with "
            "tasks of the real formats: the numbers compare methods on that model and say nothing "
            "about full-size models."
        )


def _random(entries: Iterable[Entry]) -> Iterator[Footnote]:
    models = [e.model for e in entries if e.baseline and e.records[0].model.weights == "random"]
    if models:
        yield Footnote(
            f"The weights of {_listed(models)} were drawn at random where they ran: which experts, "
            "layers or blocks are dropped is arbitrary, how many is the recipe's. Memory, bytes, "
            "multiply-accumulates and speed do not depend on the weights' values; tokens are "
            "routed almost evenly."
        )


def _seeds(entries: Iterable[Entry]) -> Iterator[Footnote]:
    if any(len(entry.ok) > 1 for entry in entries):
        yield Footnote("±: sample standard deviation over the n seeds of the row.")


def _reasons(entries: Iterable[Entry]) -> Iterator[Footnote]:
    """Reasons of the rows that are not ok, which stay; equal reasons share a footnote."""
    reasons: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for entry in entries:
        for reason in _reasons_of(entry):
            reasons[reason].append(entry.id)
    for reason, rows in reasons.items():
        yield Footnote(reason, rows=tuple(rows))


def _reasons_of(entry: Entry) -> list[str]:
    bad = [record for record in entry.records if record.status != "ok"]
    seeds_of: dict[str, list[int]] = defaultdict(list)
    for record in bad:
        seeds_of[f"{record.status.capitalize()}{{}}: {_ended(sentence(record))}"].append(
            record.seed
        )
    several = len(entry.records) > 1
    return [
        text.replace("{}", f" with seed {', '.join(map(str, seeds))}" if several else "", 1)
        for text, seeds in seeds_of.items()
    ]


def _warnings(entries: Sequence[Entry]) -> Iterator[Footnote]:
    warnings: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
    for entry in entries:
        for warning in (text for record in entry.records for text in record.warnings):
            warnings[" ".join(warning.split())][entry.id] = None
    everywhere = {entry.id for entry in entries if entry.ok}
    for warning, rows in warnings.items():
        # What holds for every row would only clutter the names.
        marked = () if everywhere <= rows.keys() else tuple(rows)
        yield Footnote(f"Warning: {_ended(warning)}", rows=marked)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
