"""A checkpoint folder of any run, opened as its own evaluation opens it."""

from pathlib import Path
from typing import Any

from vl_absvit.data.json_files import read_json
from vl_absvit.tasks.checkpoint import load_parts
from vl_absvit.tasks.registry import task_of_checkpoint


def open_checkpoint(folder: Path) -> Any:
    """The checkpoint of any task's run, as the task loads it, or a converted one; the model is in evaluation mode.

    Raises:
        InputError: the folder is not whole, or holds something else.
    """
    config = folder / "config.json"  # where it is missing, the one who needs it says so
    task = task_of_checkpoint(read_json(config, dict)) if config.is_file() else None
    return load_parts(folder) if task is None else task.load(folder)
