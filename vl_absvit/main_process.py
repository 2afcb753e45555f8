"""What one process does for all of them."""

from collections.abc import Callable
from typing import TypeVar

from vl_absvit.distributed import gather_objects, is_main
from vl_absvit.errors import ConfigError, InputError

Result = TypeVar("Result")


def in_main_process(action: Callable[[], Result]) -> Result:
    """What ``action`` gives in the main process, which alone runs it.

    Whatever it raises there is raised in every process, so that none waits for another: a user's error as it is, and
    another one, which the main process alone raises with its traceback, as a ``RuntimeError``.
    """
    outcome: list[tuple[Result | None, Exception | None]] = []
    failure: Exception | None = None
    if is_main():
        try:
            outcome = [(action(), None)]
        except Exception as error:
            failure = error
            outcome = [(None, _told(error))]
    ((result, told),) = gather_objects(outcome)
    if failure is not None:
        raise failure
    if told is not None:
        raise told
    return result


def _told(error: Exception) -> Exception:
    """What the other processes raise."""
    if isinstance(error, ConfigError):
        return ConfigError(str(error))
    if isinstance(error, InputError | OSError):
        return InputError(str(error))
    return RuntimeError(f"the main process failed: {type(error).__name__}: {error}")
