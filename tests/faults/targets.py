"""Targets: the files that are spoiled, the uses that read them, and the faults drawn for them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.faults.kinds import Kind

SEED = 20261128
COUNT = 500
SHORT = tuple(range(5, COUNT, 17))
"""Numbers of the faults that are tried with every test run; every target and kind is among them."""

_ANY = (Kind.FLIP, Kind.CUT, Kind.EMPTY, Kind.DELETE, Kind.FOLDER, Kind.LINK, Kind.PIPE)
_VALUES = (Kind.EDIT, Kind.TWICE)
_LINES = (Kind.LINE_GONE, Kind.LINE_TWICE)


@dataclass(frozen=True)
class Target:
    """Files of one noun."""

    noun: str
    folder: str
    """On the stage."""
    patterns: tuple[str, ...]
    """Of the files, below the folder."""
    uses: tuple[str, ...]
    kinds: tuple[Kind, ...]
    sealed: bool = True
    """True where the files have a digest, so that what differs is never taken for another input."""


TARGETS = (
    Target(
        "artifact",
        "artifact",
        ("*",),
        ("evaluate artifact", "compress artifact", "export"),
        (*_ANY, *_VALUES, Kind.SWAP),
    ),
    Target(
        "artifact, not verified",
        "artifact",
        ("*",),
        ("evaluate unverified",),
        (*_ANY, *_VALUES),
        sealed=False,
    ),
    Target(
        "record",
        "results",
        ("tiny/records/*",),
        ("leaderboard", "board", "show", "gate", "verdict", "plot", "archive", "run again"),
        (*_ANY, *_VALUES, Kind.SWAP),
    ),
    Target(
        "items",
        "results",
        ("tiny/items/*",),
        ("gate", "archive", "run again", "leaderboard"),
        (*_ANY, *_VALUES, *_LINES, Kind.SWAP),
    ),
    Target(
        "archive",
        "archived",
        ("tiny/*.gz",),
        ("leaderboard archived", "gate archived", "show archived", "run archived"),
        (*_ANY, *_VALUES, *_LINES, Kind.SWAP),
    ),
    Target(
        "plan",
        "results",
        ("tiny/cells.json", "tiny/suite.toml"),
        ("leaderboard", "gate", "verdict", "plot", "archive", "run again"),
        (*_ANY, *_VALUES),
    ),
    Target(
        "cache",
        "cache",
        ("statistics/*/*", "hashes/*", "code/*", "tokens/*"),
        ("run", "compress"),
        (*_ANY, *_VALUES, Kind.SWAP),
    ),
    Target("note of an archive", "cache", ("archives/*",), ("run archived",), (*_ANY, *_VALUES)),
    Target(
        "tokens, saved",
        "tokens",
        ("saved.safetensors",),
        ("compress saved",),
        (*_ANY, *_VALUES, Kind.SWAP),
        sealed=False,  # another file of tokens in its place has a digest of its own
    ),
    Target(
        "tokens, plain",
        "tokens",
        ("plain.safetensors",),
        ("compress plain",),
        (*_ANY, *_VALUES),
        sealed=False,
    ),
    Target(
        "data root",
        "data",
        ("*/*/README.md", "*/*/*/*.jsonl", "*/*/*/*.parquet"),
        ("evaluate", "run"),
        (*_ANY, *_VALUES, *_LINES, Kind.SWAP),
        sealed=False,
    ),
    Target(
        "suite",
        "suite",
        ("*.toml",),
        ("dry run", "run", "compress"),
        (*_ANY, *_VALUES),
        sealed=False,
    ),
    Target(
        "papers' numbers",
        "papers",
        ("*.toml", "moe-i2.toml"),  # the suite's table is in the second, which is drawn more often
        ("verdict", "dry run"),
        (*_ANY, *_VALUES),
    ),
    Target(
        "configuration",
        "base",
        ("config.json", "generation_config.json", "README.md"),
        ("evaluate", "compress", "dry run", "run"),
        (*_ANY, *_VALUES),
        sealed=False,
    ),
    Target(
        "weights",
        "base",
        ("*.safetensors", "*.index.json"),
        ("evaluate", "compress", "dry run", "run"),
        (*_ANY, *_VALUES, Kind.SWAP),
        sealed=False,
    ),
    Target(
        "tokenizer",
        "base",
        ("tokenizer.json", "tokenizer_config.json"),
        ("evaluate", "compress", "run"),
        (*_ANY, *_VALUES, Kind.SWAP),
        sealed=False,
    ),
)


@dataclass(frozen=True)
class Fault:
    """One fault; which file and what place of it, the world's files and `dice` say."""

    number: int
    target: Target
    kind: Kind
    use: str
    seed: int = SEED

    @property
    def dice(self) -> Random:
        """Return the source of all that is drawn for it, from its beginning."""
        return Random(f"{self.seed}/{self.number}")

    @property
    def name(self) -> str:
        """Number, target, kind and verb, for test ids and reports."""
        return f"{self.number}: {self.target.noun}, {self.kind}, {self.use}"


def fault(number: int, seed: int = SEED) -> Fault:
    """Return the fault of a number; targets and kinds take turns, and a target's uses."""
    pairs = [(target, kind) for target in TARGETS for kind in target.kinds]
    turn, place = divmod(number, len(pairs))
    target, kind = pairs[place]
    return Fault(number, target, kind, target.uses[(place + turn) % len(target.uses)], seed)
