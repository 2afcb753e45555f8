"""Beginning and end of the programs that evaluate a checkpoint, in every launched process."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vl_absvit.data.json_files import make_room
from vl_absvit.errors import InputError
from vl_absvit.hub import find
from vl_absvit.precision import check_precision
from vl_absvit.training.loop import make_accelerator


class Evaluated(NamedTuple):
    """The checkpoint to evaluate, and its device."""

    checkpoint: Any  # as it was loaded, with its model on the device
    folder: Path
    name: str  # name of the folder, or on the hub with the revision
    device: torch.device


def refuse_incomplete(arguments: argparse.Namespace, rows: str, lacking: int, used: int) -> None:
    """Refuse a split of which rows lack an image, because metrics and predictions are about all of it.

    Args:
        arguments: with the options ``data`` and ``split``.
        rows: what the split consists of, such as questions.
        lacking: rows whose image was missing at preparation.
        used: the other rows.

    Raises:
        InputError: there are such rows.
    """
    if lacking:
        raise InputError(
            f"{arguments.data}: {lacking:,} of {lacking + used:,} {rows} of {arguments.split} have no image, which was "
            "missing when they were prepared: nothing is evaluated, for results must be about all of the split; bring "
            "the images and prepare again, into another folder"
        )


def evaluate_checkpoint(
    arguments: argparse.Namespace,
    load: Callable[[Path], Any],
    evaluate: Callable[[argparse.Namespace, Evaluated], None],
) -> None:
    """A whole evaluation of the checkpoint that ``--checkpoint`` names.

    Args:
        arguments: arguments of the program.
        load: reads a checkpoint folder, such as ``Task.load``.
        evaluate: the program's own part, which writes ``--output``. It begins only if ``--output`` can be written.

    Raises:
        ConfigError: the device does not compute in the precision that is asked for.
        InputError: there is no such checkpoint, or nothing can be written.
    """
    accelerator = make_accelerator()
    check_precision(arguments.precision, accelerator.device)
    found = find(arguments.checkpoint, "--checkpoint")
    checkpoint = load(found.path)
    make_room(arguments.output)  # now, so that what cannot be evaluated leaves nothing behind
    checkpoint.model.to(accelerator.device).vision.fold()
    evaluate(arguments, Evaluated(checkpoint, found.path, found.name, accelerator.device))
    accelerator.end_training()
