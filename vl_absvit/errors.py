"""Errors that users can cause, and other errors in one line.

Programs print an ``InputError`` as one line on stderr. Any other error is our fault and keeps its traceback.
"""


class InputError(ValueError):
    """Data, files or checkpoints are not as expected: the message says where, what was expected and what came."""


class ConfigError(InputError):
    """The run's configuration contradicts itself or names something that does not exist."""


def one_line(error: BaseException) -> str:
    """An error's message in one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
