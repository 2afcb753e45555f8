"""Processes that are killed, or meet a full disk, before a chosen one of their file operations."""

import errno
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
Event = Callable[[str, tuple], bool]
"""Whether an audit event, its name and arguments, is one to count; Python tells of each before it happens."""


def any_operation(name: str, _: tuple) -> bool:
    return name == "open" or name in CHANGES


def writing_a_checkpoint(name: str, arguments: tuple) -> bool:
    """A new file or folder, or a new name, below a folder ``checkpoints``."""
    if name == "open":
        path, _, flags = arguments
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
    elif name in ("os.mkdir", "os.rename"):
        path = arguments[0]
    else:
        return False
    return not isinstance(path, int) and "/checkpoints/" in os.fsdecode(path)


def die() -> NoReturn:
    """What ``kill -9`` does: nothing is cleaned up, nothing flushed."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def fill_the_disk() -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def before_operation(number: int, fault: Callable[[], object], is_counted: Event = any_operation) -> None:
    """Have ``fault`` called before the ``number``-th file operation (from 1) that this process does from now on."""
    operations = itertools.count(1)

    def hook(name: str, arguments: tuple) -> None:
        if is_counted(name, arguments) and next(operations) == number:
            fault()

    sys.addaudithook(hook)


def number_of_operations(action: Callable[[], object]) -> int:
    """How many file operations ``action`` does, fewer than a hundred."""

    def count() -> NoReturn:
        operations = itertools.count(0)
        sys.addaudithook(lambda name, arguments: any_operation(name, arguments) and next(operations))
        action()
        os._exit(100 + next(operations))

    number = in_a_process(count) - 100
    assert number > 0
    return number


def in_a_process(action: Callable[[], object]) -> int:
    """Exit code of a forked process that does ``action``, or minus the number of the signal that ended it.

    ``action`` must not compute with torch: a forked process has none of its parent's threads.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
