"""The recipe of each reference model, as it was trained."""

from __future__ import annotations

from harness.reference.training.schedule import Schedule

SCHEDULES: dict[str, Schedule] = {
    "mixtral": Schedule(),
    "qwen2-moe": Schedule(),
    "deepseek-v2": Schedule(stop=1500, domains=0.2),
}
