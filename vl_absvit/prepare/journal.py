"""What a preparation found out so far, on disk: it outlives an interruption."""

import fcntl
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vl_absvit.errors import InputError


class Journal:
    """Lists of values, a line of JSON each; use as a context manager. One process at a time may have it open."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: another process has it open.
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
        """The entries on a topic, in order; one that was cut short by the interruption is passed over."""
        self._stream.seek(0)
        for line in self._stream.read().split("\n"):
            try:
                found, *values = json.loads(line)
            except ValueError:
                continue
            if found == topic:
                yield values

    def write(self, topic: str, entries: Iterable[Iterable[Any]]) -> None:
        """Add entries of JSON values; they are kept whatever happens to this process."""
        # A line begins with its line feed, so that it does not go on one that was cut short.
        self._stream.write("".join(f"\n{json.dumps([topic, *values])}" for values in entries))
        self._stream.flush()
