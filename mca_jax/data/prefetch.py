"""Maps a function over items in threads: in order, ahead, and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_ahead"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` in the order of the items, computed ahead.

    ``ThreadPoolExecutor.map`` starts on all items at once, so its results pile
    up when they are made faster than they are used.

    Closing the iterator, or an exception in the code that uses it, such as
    Ctrl-C, drops what has not begun and waits for the calls that have.

    At most ``ahead`` results wait, done or not; it and ``threads`` are at least 1.
    An exception of ``function`` is raised where its result would come.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="mca-jax-read")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
