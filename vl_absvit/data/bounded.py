"""Read possibly hostile files within bounds: ordinary files only, of a bounded size, and no gzip bombs."""

import gzip
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vl_absvit.errors import InputError

MAX_PICTURE_BYTES = 2**30
"""Twice the size of the largest picture that is decoded, uncompressed with 16 bits a channel."""
MAX_RATIO = 200
"""Largest ratio of unpacked to packed size. JSON reaches 50 at best, zeros reach 1,000."""
_ALWAYS_ALLOWED = 64 << 20
MAX_BYTES = 2 << 30
"""Largest unpacked size of a file that is read whole; five times the largest file of a known data set."""
_PIECE = 1 << 20


def check_ordinary(path: Path) -> int:
    """Size of an ordinary file in bytes. Links are followed.

    Raises:
        OSError: there is no such file, or it is a folder.
        InputError: it is a pipe, a device or a socket, whose reading might never end. The message is the reason alone.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise InputError("not an ordinary file, but a pipe, a device or a socket")
    return status.st_size


def read_picture(path: Path) -> bytes:
    """The bytes of a picture's file.

    Raises:
        OSError: it cannot be read.
        InputError: it is no ordinary file, or too large. The message is the reason alone; the caller adds the file.
    """
    size = check_ordinary(path)
    if size > MAX_PICTURE_BYTES:
        raise InputError(f"{size:,} bytes, the limit is {MAX_PICTURE_BYTES:,}")
    return path.read_bytes()


@contextmanager
def reading_text(path: Path, expected: str, where: Callable[[], str] = str) -> Iterator[None]:
    """Turn what can go wrong in ``unpack`` and in decoding its bytes into an ``InputError`` of one line.

    Args:
        expected: what the file should be, for messages.
        where: words about how far reading got.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {expected}{where()}: {error}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: expected a gzip file{where()}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read{where()}: {error.strerror or error}") from error


def unpack(path: Path, most: int | None = MAX_BYTES) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time. A file whose name ends in ``.gz`` is unpacked.

    Args:
        most: bytes that it may have, unpacked; None sets no limit, for a reader that holds a part of it at a time.

    Raises:
        OSError, EOFError, zlib.error: it cannot be read, or is not a whole gzip file.
        InputError: it is no ordinary file, has too many bytes, or unpacks to far more than JSON does. The message names
            the file.
    """
    try:
        size = check_ordinary(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    with path.open("rb") as packed, gzip.open(packed) if path.suffix == ".gz" else packed as stream:
        unpacked = 0
        while piece := stream.read(_PIECE):
            unpacked += len(piece)
            if most is not None and max(size, unpacked) > most:
                raise InputError(f"{path}: has more than {most:,} bytes, the limit of a file that is read whole")
            if unpacked > max(_ALWAYS_ALLOWED, MAX_RATIO * packed.tell()):
                raise InputError(f"{path}: unpacks to more than {MAX_RATIO} times its size, which no JSON file does")
            yield piece
