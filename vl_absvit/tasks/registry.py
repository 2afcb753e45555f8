"""All tasks, by kind.

A new task is a file like ``vqa.py`` and its name in ``TASKS``; ``CONTRIBUTING.md`` has one as an example.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vl_absvit.cli import config_keys
from vl_absvit.config import TaskConfig
from vl_absvit.config.shipped import find_config
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.base import Task
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.pairs import PairsTask
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.segmentation import SegmentationTask
from vl_absvit.tasks.statements import NLVR2Task, SNLIVETask
from vl_absvit.tasks.vl_checkpoint import load_parts
from vl_absvit.tasks.vqa import VQATask

_ALL = (VQATask, RetrievalTask, NLVR2Task, SNLIVETask, PairsTask, ClassificationTask, SegmentationTask)
TASKS: dict[str, type[Task]] = {task.kind: task for task in _ALL}


def task_of(config: TaskConfig) -> type[Task]:
    """The task that a config is for."""
    return next(task for task in TASKS.values() if task.config_class is type(config))


def task_of_checkpoint(content: Mapping[str, Any]) -> type[Task] | None:
    """The task that wrote a checkpoint whose ``config.json`` has this content; None where none did."""
    return next((task for task in TASKS.values() if task.holds(content)), None)


def open_checkpoint(folder: Path) -> Any:
    """The checkpoint of any task's run, as the task loads it, or a converted one; the model is in evaluation mode.

    Raises:
        InputError: the folder is not whole, or holds something else.
    """
    config = folder / "config.json"  # where it is missing, the one who needs it says so
    task = task_of_checkpoint(read_json(config, dict)) if config.is_file() else None
    return load_parts(folder) if task is None else task.load(folder)


def choose_task(kind: str | None, file: str, overrides: Sequence[str]) -> type[Task]:
    """The task of a kind; where none is named, the one that ``find_task`` finds.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind is None:
        return find_task(file, overrides)
    if kind not in TASKS:
        raise ConfigError(f"command line: --task: expected one of {', '.join(TASKS)}, got {kind!r}")
    return TASKS[kind]


def find_task(file: str, overrides: Sequence[str]) -> type[Task]:
    """The task that knows most of the keys, in a config file and on the command line, that the first of ``TASKS`` does
    not know; the first where it knows all.

    What is wrong with the file is left to its parser to tell.
    """
    try:
        content = yaml.safe_load(find_config(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        content = {}
    given = {word[2:].split("=", 1)[0] for word in overrides if word.startswith("--")}
    if isinstance(content, Mapping):
        given |= set(content)
        given |= {f"{group}.{key}" for group, keys in content.items() if isinstance(keys, Mapping) for key in keys}
    first = next(iter(TASKS.values()))
    given -= config_keys(first.config_class).keys()
    return max(TASKS.values(), key=lambda task: len(given & config_keys(task.config_class).keys()))
