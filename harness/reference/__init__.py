"""Small trained Mixture-of-Experts models and their synthetic world, shipped with the package.

Importing this package stays cheap: no torch, no transformers. See docs/reference-models.md.

Imports disk, errors.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

DATA: Path = _HERE / "data"
"""Root of the data sets: `DATA / <hub id>` has the layout lm-eval's own tasks read."""

MODELS: dict[str, Path] = {
    f"reference/{name}": _HERE / "models" / name for name in ("mixtral", "qwen2-moe", "deepseek-v2")
}
"""Folder of every reference model, under the name users write."""
