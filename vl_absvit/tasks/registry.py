"""All tasks, by kind.

A new task is a file like ``vqa.py`` and its name in ``TASKS``; ``CONTRIBUTING.md`` has one as an example.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vl_absvit.cli import read_config
from vl_absvit.config import TaskConfig
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


def choose_task(kind: str | None, file: str) -> type[Task]:
    """The task of a kind; where none is named, the one that a config file names.

    Raises:
        ConfigError: none is named, or one that is not there.
    """
    where: str = "command line: --task"
    if kind is None:
        kind, where = read_config(file).get("task"), f"config {file}: task"
        if kind is None:
            raise ConfigError(f"{where} is missing; expected one of {', '.join(TASKS)}, in the file or by --task")
    if kind not in list(TASKS):
        raise ConfigError(f"{where}: expected one of {', '.join(TASKS)}, got {kind!r:.60}")
    return TASKS[kind]
