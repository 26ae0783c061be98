"""The recipe of each reference model, as it was trained."""

from __future__ import annotations

from harness.reference.training.schedule import Recipe

RECIPES: dict[str, Recipe] = {
    "mixtral": Recipe(),
    "qwen2-moe": Recipe(),
    "deepseek-v2": Recipe(stop=1500, domains=0.2),
}
