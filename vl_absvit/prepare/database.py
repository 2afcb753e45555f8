"""A scratch database on disk: joins tables of any size in little memory, and outlives an interruption."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vl_absvit.errors import InputError

_CACHE_KIB = 32 * 1024
_SECONDS_TO_WAIT = 1.0  # for another process to be done
_SCHEMA = "CREATE TABLE IF NOT EXISTS finished (file TEXT PRIMARY KEY)"


class Database:
    """SQLite whose errors are one line; use as a context manager. One process at a time may have it open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=_SECONDS_TO_WAIT)
        with self._failing_clearly():
            self._connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            # A log that is flushed now and then: a loss of power may cost the last changes, but nothing before them.
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
        self.create(_SCHEMA)

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def create(self, schema: str) -> None:
        """Run statements that make tables and indices; each says IF NOT EXISTS."""
        with self._failing_clearly():
            self._connection.executescript(schema)

    def add_function(self, name: str, arguments: int, function: Any) -> None:
        """Let queries call a Python function."""
        self._connection.create_function(name, arguments, function)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside, or none of them."""
        self.run("BEGIN")
        try:
            yield
        except BaseException:
            with self._failing_clearly():
                self._connection.rollback()
            raise
        self.run("COMMIT")

    @contextmanager
    def taking_in(self, file: Path, part: str = "") -> Iterator[None]:
        """A transaction that takes in a source file and remembers that it did: see ``has_taken_in``."""
        with self.transaction():
            yield
            self.run("INSERT INTO finished VALUES (?)", file.name + part)

    def has_taken_in(self, file: Path, part: str = "") -> bool:
        """Whether this file was taken in, perhaps before an interruption.

        Args:
            part: which of the things that a file holds, where it holds several.
        """
        return self.one("SELECT 1 FROM finished WHERE file = ?", file.name + part) is not None

    def take_in(self, file: Path, statement: str, rows: Iterable[Sequence[Any]], noun: str, part: str = "") -> None:
        """Insert the rows of a source file, unless that was done before an interruption.

        Args:
            noun: what a row is, its first value being its id.
            part: see ``has_taken_in``.

        Raises:
            InputError: an id occurs twice.
        """
        if self.has_taken_in(file, part):
            return
        with self.taking_in(file, part):
            for row in rows:
                if not self.insert(statement, row):
                    raise InputError(f"{file}: the {noun} {row[0]} occurs twice")

    def insert(self, statement: str, row: Sequence[Any]) -> bool:
        """Insert one row; False if a value that must be unique is there already."""
        try:
            self._connection.execute(statement, row)
        except sqlite3.IntegrityError:
            return False
        except sqlite3.Error as error:
            raise self._clear(error) from error
        return True

    def run(self, statement: str, *values: Any) -> None:
        """One statement without a result."""
        with self._failing_clearly():
            self._connection.execute(statement, values)

    def run_for_each(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement for every row of values."""
        with self._failing_clearly():
            self._connection.executemany(statement, rows)

    def one(self, query: str, *values: Any) -> Any:
        """The first row of a query's result, or None."""
        with self._failing_clearly():
            return self._connection.execute(query, values).fetchone()

    def all(self, query: str, *values: Any) -> Iterator[Any]:
        """The rows of a query's result, one at a time."""
        with self._failing_clearly():
            # "yield from" would close the cursor at the end, of a database that may be closed already.
            for row in self._connection.execute(query, values):  # noqa: UP028
                yield row

    @contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._clear(error) from error

    def _clear(self, error: sqlite3.Error) -> InputError:
        hint = "; is another preparation at work here?" if "locked" in str(error) else ""
        return InputError(f"{self._path}: {error}{hint}")
