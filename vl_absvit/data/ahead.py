"""A thread that makes the next items while the present one is in use."""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")
_LOOK_UP_SECONDS = 0.1


def ahead(items: Iterator[Item], number: int) -> Iterator[Item]:
    """The same items in the same order. At most ``number`` of them are made in advance.

    Only the thread iterates over ``items``. Its exceptions are raised here, and it stops when this iterator is closed.
    """
    made: queue.Queue[tuple[Item] | BaseException] = queue.Queue(number)
    is_over = threading.Event()

    def put(entry: tuple[Item] | BaseException) -> bool:
        while not is_over.is_set():
            try:
                made.put(entry, timeout=_LOOK_UP_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        end: BaseException = StopIteration()
        try:
            for item in items:
                if not put((item,)):
                    return
        except BaseException as error:
            end = error
        put(end)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            entry = made.get()
            if isinstance(entry, StopIteration):
                return
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        is_over.set()
        thread.join()
