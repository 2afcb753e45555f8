"""A checkpoint folder of any run, opened as its own evaluation opens it."""

from pathlib import Path

from vl_absvit.data.json_files import read_json
from vl_absvit.tasks.checkpoint import VLCheckpoint, head_of, load_parts
from vl_absvit.tasks.classification import ClassifierCheckpoint, load_classifier
from vl_absvit.tasks.vqa import VQACheckpoint, load_checkpoint


def open_checkpoint(folder: Path) -> VLCheckpoint | VQACheckpoint | ClassifierCheckpoint:
    """The checkpoint of a VQA, retrieval or pretraining run, or a converted one; the model is in evaluation mode.

    Raises:
        InputError: the folder is not whole, or holds something else.
    """
    if (folder / "config.json").is_file():  # else what is missing is said by the one who needs it
        if "classes" in read_json(folder / "config.json", dict):
            return load_classifier(folder)
        if head_of(folder) == "vqa":
            return load_checkpoint(folder)
    return load_parts(folder)
