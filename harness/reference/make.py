"""Makes the reference world's data and models from seeds.

Run `python -m harness.reference.make --data` or `--model mixtral`.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.reference import DATA, MODELS

if TYPE_CHECKING:
    from harness.reference.training.schedule import Schedule

_LOG = logging.getLogger(__name__)
_NAMES = [name.removeprefix("reference/") for name in MODELS]


def draft(name: str, folder: Path, recipe: Schedule) -> None:
    """Train a fresh model on the draft of the world and write it."""
    from harness.reference.training.curriculum import Curriculum
    from harness.reference.training.save import save
    from harness.reference.training.train import Trainer
    from harness.reference.world.world import World

    curriculum = Curriculum(World(draft=True))
    _LOG.info("draft of %s: %s", name, asdict(recipe))
    trainer = Trainer(name, curriculum, recipe)
    save(trainer.run(), curriculum.words, folder)
    _LOG.info("stages passed at %s", trainer.progress.passed_at)


def finish(name: str, source: Path, folder: Path, recipe: Schedule) -> None:
    """Train the experts of the draft in `source` on the world and write the model."""
    import torch
    from transformers import AutoModelForCausalLM

    from harness.reference.training.curriculum import Curriculum
    from harness.reference.training.finish import Finisher
    from harness.reference.training.save import save
    from harness.reference.world.world import World

    curriculum = Curriculum(World())
    _LOG.info("experts of %s: %s", name, asdict(recipe))
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    finisher = Finisher(model, curriculum, recipe)
    save(finisher.run(lambda _, m: save(m, curriculum.words, folder)), curriculum.words, folder)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.reference.make", description=__doc__)
    parser.add_argument("--data", action="store_true", help="write the data sets")
    parser.add_argument("--model", choices=_NAMES, help="train and write one model")
    parser.add_argument("--out", type=Path, help="another folder than the package's own")
    parser.add_argument("--draft", type=Path, help="begin with the trained draft in this folder")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.data:
        from harness.reference.datasets import write

        write(args.out or DATA)
    if args.model:
        from harness.reference.training.schedules import SCHEDULES

        recipe, folder = SCHEDULES[args.model], args.out or MODELS[f"reference/{args.model}"]
        if args.draft is None:
            draft(args.model, folder, recipe)
        finish(args.model, args.draft or folder, folder, recipe)


if __name__ == "__main__":
    main()
