"""The method in docs/add-a-method.md runs as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from harness.calibration.walk import Calibration
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.view import MoEModel

PAGE = Path(__file__).parents[2] / "docs" / "add-a-method.md"


def test_the_example(
    tmp_path: Path, tiny: Callable[..., MoEModel], calibration: Callable[..., Calibration]
) -> None:
    [source] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "frequency.py").write_text(source)
    model = tiny("deepseek_v2")
    method = build(f"{tmp_path}/frequency.py:Frequency", {"keep": 4})
    compress(model, [BoundStep(method, calibration())])
    assert [len(block.experts) for block in model.blocks] == [0, 4, 4, 4]
