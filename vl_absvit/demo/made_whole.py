"""A drawn world's folder: whole or absent, made once, by processes that one interrupt ends."""

import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.errors import InputError

Track = Callable[[Iterable, int, str], Iterator]
"""Wraps an iterable of known length in a progress bar: (items, total, description)."""


def make_whole(output: Path, arguments: dict, write: Callable[[Path], dict[str, int]]) -> bool:
    """Have a world written to ``output``, or leave it alone where the same world is there already.

    Args:
        arguments: that the world is made from.
        write: fills an empty folder; returns counts.

    Returns:
        True if the world was written, False if it was there.

    Raises:
        InputError: ``output`` holds something else.
    """
    output = output.absolute()
    if _is_there(output, arguments):
        return False
    unfinished = output.with_name(f"{output.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    counts = write(unfinished)
    write_json(unfinished / "demo.json", {"arguments": arguments, "counts": counts}, indent=1)
    os.replace(unfinished, output)
    return True


def workers_of(number: int) -> ProcessPoolExecutor:
    """Processes that draw. They ignore an interrupt, which ends this process, and with it them: one process reports."""
    context, ignored = get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    return ProcessPoolExecutor(number, context, initializer=signal.signal, initargs=ignored)


def _is_there(output: Path, arguments: dict) -> bool:
    if not output.exists():
        return False
    if not output.is_dir():
        raise InputError(f"{output}: expected a folder, got a file; choose another --output")
    if not any(output.iterdir()):
        output.rmdir()
        return False
    if not (output / "demo.json").is_file():
        raise InputError(f"{output}: the folder is not empty and holds no demo world; choose another --output")
    found = read_json(output / "demo.json", dict).get("arguments")
    if found != arguments:
        raise InputError(
            f"{output}: holds a demo world made with {found}, asked for {arguments}; choose another --output"
        )
    return True
