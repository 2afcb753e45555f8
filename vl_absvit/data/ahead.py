"""A thread that makes the next items while the last one is used."""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")
_LOOK_UP_SECONDS = 0.1


def ahead(items: Iterator[Item], number: int) -> Iterator[Item]:
    """The same items in the same order, at most ``number`` of them made before they are asked for.

    Only the thread iterates over ``items``. What it raises is raised here; where this is closed, it stops.
    """
    made: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(number)
    is_over = threading.Event()

    def put(item: Item | None, end: BaseException | None = None) -> bool:
        while not is_over.is_set():
            try:
                made.put((item, end), timeout=_LOOK_UP_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        end: BaseException = StopIteration()
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:
            end = error
        put(None, end)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, end = made.get()
            if isinstance(end, StopIteration):
                return
            if end is not None:
                raise end
            yield item
    finally:
        is_over.set()
        thread.join()
