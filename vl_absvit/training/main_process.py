"""What one process does for all of them."""

from collections.abc import Callable
from typing import TypeVar

from vl_absvit.distributed import gather_objects, is_main
from vl_absvit.errors import InputError

Result = TypeVar("Result")


def in_main_process(action: Callable[[], Result]) -> Result:
    """What ``action`` gives in the main process, which alone runs it; its ``InputError`` is raised in every process."""
    outcome: list[tuple[Result | None, str | None]] = []
    if is_main():
        try:
            outcome = [(action(), None)]
        except InputError as error:
            outcome = [(None, str(error))]
    ((result, failure),) = gather_objects(outcome)
    if failure is not None:
        raise InputError(failure)
    return result
