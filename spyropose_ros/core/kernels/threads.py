"""Independent parts of a computation on the cores of a CPU.

PyTorch splits every single operation, and its threads wait for each other after each, actively: a
search is thousands of small operations, and a core that another process keeps busy stops them all.
Here whole parts of the work go to threads that take the next one when they are done, so a slow core
takes fewer.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

_here = threading.local()  # the number of threads inside `parts_in_parallel`


@contextmanager
def parts_in_parallel() -> Iterator[None]:
    """Let `run` use as many threads as PyTorch did, and each operation only one.

    A thread that calls PyTorch for the first time while another one is in here stays at one thread
    for an operation: PyTorch takes over the number then.
    """
    threads = torch.get_num_threads()
    if threads == 1:  # or nested
        yield
        return
    _here.threads = threads
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        del _here.threads


def run(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Run a function on parts; one by one outside `parts_in_parallel`.

    Args:
        function: of one part, without gradients.
        parts: independent of each other.

    Returns:
        The results, in the order of the parts.

    Raises:
        Exception: the first that the function raised; parts that had not begun are left out.
    """
    helpers = min(getattr(_here, "threads", 1), len(parts)) - 1
    if helpers < 1:
        return [function(part) for part in parts]
    results: dict[int, Result] = {}
    waiting = deque(enumerate(parts))
    inference = torch.is_inference_mode_enabled()  # of this thread, as gradients are

    def work() -> None:
        while (taken := _take(waiting)) is not None:
            index, part = taken
            results[index] = function(part)

    def help() -> None:
        if torch.get_num_threads() > 1:  # this thread's
            torch.set_num_threads(1)
        with torch.inference_mode(inference), torch.no_grad():
            work()

    started = [_pool(helpers).submit(help) for _ in range(helpers)]
    try:
        work()
    finally:
        waiting.clear()
        begun = [future for future in started if not future.cancel()]
        errors = [future.exception() for future in begun]
    for error in errors:
        if error is not None:
            raise error
    return [results[index] for index in range(len(parts))]


def _take(waiting: deque[tuple[int, Part]]) -> tuple[int, Part] | None:
    """Take the next part, for this thread alone; None if none is left."""
    try:
        return waiting.popleft()
    except IndexError:
        return None


@cache
def _pool(helpers: int) -> ThreadPoolExecutor:
    """Return threads that wait for work; the interpreter ends them."""
    return ThreadPoolExecutor(helpers, thread_name_prefix="search")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork has no threads of the pool
