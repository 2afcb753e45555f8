"""Results of a preparation so far, on disk, so that they survive an interruption."""

import fcntl
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vl_absvit.errors import InputError


class Journal:
    """Lists of values, one line of JSON each. It is a context manager that one process at a time may open."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: another process has the file open.
        """
        self._stream = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._stream.close()
            raise InputError(f"{path}: is locked; is another preparation at work here?") from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def read(self, topic: str) -> Iterator[list[Any]]:
        """The entries on a topic, in order. An entry that an interruption cut short is skipped."""
        self._stream.seek(0)
        for line in self._stream.read().split("\n"):
            try:
                found, *values = json.loads(line)
            except ValueError:
                continue
            if found == topic:
                yield values

    def write(self, topic: str, entries: Iterable[Iterable[Any]]) -> None:
        """Add entries of JSON values. They survive the end of this process."""
        # A line begins with its line feed, so that it is not joined to a line that was cut short.
        self._stream.write("".join(f"\n{json.dumps([topic, *values])}" for values in entries))
        self._stream.flush()
