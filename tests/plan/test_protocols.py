"""The protocols of the shipped suites: none changes by accident, else its cells are new ones."""

from __future__ import annotations

from harness.plan.find import installed
from harness.plan.suite import Suite

HASHES = {
    "c-moe-block-drop": "c87d6448c571",
    "c-moe-dense": "9aef0b9339f4",
    "c-moe-expert-drop": "c87d6448c571",
    "c-moe-layer-drop": "c87d6448c571",
    "c-moe-recipes": "c87d6448c571",
    "c-moe-slimming": "23a869b0b41d",
    "eep": "c592c5bf1f68",
    "eep-math": "b515c7725d51",
    "efficiency-deepseek": "19b408f63500",
    "efficiency-mixtral": "19b408f63500",
    "efficiency-qwen": "19b408f63500",
    "efficiency-small": "cb0e5face507",
    "moe-i2-table1": "e9530544b3fe",
    "moe-i2-table2": "e9530544b3fe",
    "moe-i2-table3": "12a0a03723d7",
    "moe-i2-table4": "443f2d0fcceb",
    "moe-i2-table5": "e9530544b3fe",
    "moe-i2-table6": "795671cbc502",
    "moe-i2-table7": "e9530544b3fe",
    "moe-i2-table8": "e9530544b3fe",
    "moe-i2-table9": "949699a8d4fd",
    "ordering": "8e2a683a512b",
    "peers": "4504712f3c72",
    "quickstart": "f03789c65e3f",
    "real-small": "e161cec4083d",
    "reference": "f03789c65e3f",
    "regression": "9693db9a0c01",
}
"""First digits of the hash of each suite's protocol, which only its own [protocol] may change."""


def test_the_protocols_of_the_suites_are_what_they_were() -> None:
    assert {name: Suite.load(name).protocol.sha256[:12] for name in installed()} == HASHES
