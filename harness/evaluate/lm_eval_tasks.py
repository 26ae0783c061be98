"""lm-eval's own task definitions: where they are, and how they are loaded from a data root."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data import DataRoot, hub_errors
from harness.disk.reading import read_text
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

FOLDERS = {
    "arc_challenge": "arc",
    "arc_easy": "arc",
    "boolq": "super_glue/boolq",
    "gsm8k": "gsm8k",
    "hellaswag": "hellaswag",
    "hendrycks_math": "hendrycks_math",
    "mmlu": "mmlu/default",
    "openbookqa": "openbookqa",
    "piqa": "piqa",
    "rte": "glue/rte",
    "wikitext": "wikitext",
    "winogrande": "winogrande",
}
"""Task to its folder in lm-eval. Reading one folder takes 2 ms, reading all of them 5 s."""

_DATA_SET = re.compile(r"^dataset_path:\s*['\"]?([\w.-]+/[\w.-]+)", re.MULTILINE)


@cache
def known_tasks() -> list[str]:
    """The tasks found without reading all of lm-eval's: those of `FOLDERS`, MMLU's subjects."""
    subjects = (_tasks_folder() / FOLDERS["mmlu"]).glob("mmlu_*.yaml")
    return sorted({*FOLDERS, *(file.stem for file in subjects)})


@cache
def _tasks_folder() -> Path:
    spec = find_spec("lm_eval")  # imports nothing
    if spec is None or not spec.submodule_search_locations:
        raise UserError("lm-eval is not installed; install moebench with its dependencies.")
    return Path(spec.submodule_search_locations[0]) / "tasks"


def folder_of(name: str) -> Path | None:
    """The folder that defines a task, or None when only the whole index can tell."""
    relative = FOLDERS.get(name)
    if relative is None and name in known_tasks():
        relative = FOLDERS["mmlu"]
    return None if relative is None else _tasks_folder() / relative


@cache
def data_sets(name: str) -> frozenset[str]:
    """The hub ids of the data sets that a task's folder names, without importing lm-eval.

    Empty for a task that only the whole index can tell of.
    """
    folder = folder_of(name)
    if folder is None:
        return frozenset()
    texts = [read_text(file) for file in sorted(folder.glob("*yaml*")) if file.is_file()]
    return frozenset(match[1] for text in texts for match in _DATA_SET.finditer(text))


def load(names: Sequence[str], data: DataRoot, shots: int | None) -> Mapping[str, Any]:
    """Tasks and groups as `lm_eval.evaluator.evaluate` takes them.

    Args:
        names: Tasks, groups or tags.
        data: Where their data sets come from.
        shots: For every task; None leaves each its own default.

    Returns:
        `tasks` (name to Task) and `groups` (name to Group), as `TaskManager.load` does.

    Raises:
        UserError: an unknown name, or data that is missing or unreadable.
    """
    from lm_eval.tasks import TaskManager

    folders = [folder_of(name) for name in names]
    if None in folders:
        manager = TaskManager()
    else:
        manager = TaskManager(include_defaults=False, include_path=sorted({*map(str, folders)}))
    for name in names:
        if name not in manager.all_tasks:
            raise unknown("task", name, manager.all_tasks)
    with from_root(data, needs_examples=shots != 0):
        loaded = _loaded(manager, names, data)
    for task in loaded["tasks"].values():
        _set_shots(task, shots)
        _keep_docs(task)
    return loaded


def _loaded(manager: TaskManager, names: Sequence[str], data: DataRoot) -> Mapping[str, Any]:
    from jinja2 import UndefinedError

    try:
        with hub_errors(", ".join(names)) if data.path is None else nullcontext():
            loaded: Mapping[str, Any] = manager.load(list(names))
    except (LookupError, AttributeError, TypeError, ValueError, UndefinedError) as error:
        if data.path is None:
            raise
        raise UserError(
            f"{data.path}: the rows for {', '.join(names)} lack what the task reads of them "
            f"({type(error).__name__}: {error}); copy the data set from its hub repository."
        ) from error
    return loaded


def _set_shots(task: Task, shots: int | None) -> None:
    """As `lm_eval.simple_evaluate`: a task that pins zero shots keeps them."""
    default = task.get_config("num_fewshot")
    if shots is not None and default != 0:
        task.set_config(key="num_fewshot", value=shots)
    elif default is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=1234)


def _keep_docs(task: Task) -> None:
    """Process the evaluated split once; lm-eval does so each time it asks for its length."""
    if task.config.process_docs is None:
        return
    docs = task.task_docs
    name = "test_docs" if task.has_test_docs() else "validation_docs"
    setattr(task, name, lambda: docs)


@contextmanager
def from_root(data: DataRoot, *, needs_examples: bool) -> Iterator[None]:
    """Have lm-eval's tasks read from `data`; their definitions, `dataset_path` included, stay.

    Args:
        data: A data root; without a path, the hub's own loader stays.
        needs_examples: False leaves out the split that few-shot examples come from, which lm-eval
            reads, and processes, even for zero shots.
    """
    import datasets
    from lm_eval.api.task import ConfigurableTask

    with ExitStack() as stack:
        if data.path is not None:
            stack.enter_context(_replaced(datasets, "load_dataset", partial(_load, data)))
        if not needs_examples:
            without = _replaced(ConfigurableTask, "fewshot_docs", lambda _task: None)
            stack.enter_context(without)
        yield


def _load(data: DataRoot, path: str, name: str | None = None, **options: Any) -> Mapping[str, Any]:
    options = {key: value for key, value in options.items() if value is not None}
    if options:
        raise UserError(
            f"a task loads {path} with {', '.join(options)}, which a data root cannot honour; "
            f"evaluate it from the hub."
        )
    return data.dataset(path, name)


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = name in vars(owner)
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


@contextmanager
def quiet(told: Callable[[int, int], None] | None = None) -> Iterator[None]:
    """Without lm-eval's log lines and progress bars, and without compiling templates twice.

    Args:
        told: Told instead of the bar of requests how many are done, and of how many.
    """
    import datasets
    import lm_eval.api.model
    import lm_eval.api.task
    import lm_eval.models.huggingface
    import lm_eval.utils
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Silent(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    class Told(Silent):
        def update(self, n: float = 1) -> None:
            self.n += n
            if told and self.total:
                told(int(self.n), int(self.total))

    templates = lm_eval.utils.env
    logger, bars = logging.getLogger("lm_eval"), datasets.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        with ExitStack() as stack:
            for module in (lm_eval.api.task, lm_eval.api.model):
                stack.enter_context(_replaced(module, "tqdm", Silent))
            stack.enter_context(_replaced(lm_eval.models.huggingface, "tqdm", Told))
            compiled = cache(templates.from_string)  # lm-eval compiles for every item and field
            stack.enter_context(_replaced(templates, "from_string", compiled))
            yield
    finally:
        logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


@contextmanager
def seeded() -> Iterator[None]:
    """lm-eval's seeds for Python, NumPy and torch; the callers' states are restored."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (lm-eval uses it)
    with torch.random.fork_rng(devices=[]):
        random.seed(0)
        np.random.seed(1234)  # noqa: NPY002
        torch.manual_seed(1234)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
