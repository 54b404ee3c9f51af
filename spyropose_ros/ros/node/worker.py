"""One thread that owns the model and always processes the newest item. Independent of ROS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds one item; a newer one replaces it. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Store an item; return what it replaces, or the item itself if the mailbox is closed."""
        with self._changed:
            if self._closed:
                return item
            replaced, self._item = self._item, item
            self._changed.notify()
        return replaced

    def take(self) -> T | None:
        """Wait for an item and remove it; return None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> T | None:
        """Release all waiting threads, now and later; return the item that was not taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            item, self._item = self._item, None
            return item


class Worker(Generic[T]):
    """Runs ``prepare`` and then ``handle`` for the newest submitted item, all in one thread.

    Args:
        prepare: slow start-up work, such as loading a model; returns the function that handles an
            item, which must deal with its own errors.
        discard: called for every item that is not handled, in the thread of ``submit`` or ``stop``.
        on_failure: called, in the thread, with the exception that ended it.
    """

    def __init__(
        self,
        prepare: Callable[[], Callable[[T], None]],
        discard: Callable[[T], object],
        on_failure: Callable[[Exception], object],
    ) -> None:
        self._prepare = prepare
        self._discard = discard
        self._on_failure = on_failure
        self._mailbox: Mailbox[T] = Mailbox()
        self._ready = threading.Event()
        # daemon: a hanging model download must not keep the process alive
        self._thread = threading.Thread(target=self._run, name="estimator", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether ``prepare`` has finished."""
        return self._ready.is_set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, item: T) -> None:
        """Submit an item; an unhandled older one is discarded."""
        unhandled = self._mailbox.put(item)
        if unhandled is not None:
            self._discard(unhandled)

    def stop(self, timeout: float | None = None) -> bool:
        """Finish the current item, then end the thread.

        Args:
            timeout: longest wait in seconds; None waits without limit.

        Returns:
            Whether the thread has ended.
        """
        unhandled = self._mailbox.close()
        if unhandled is not None:
            self._discard(unhandled)
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            handle = self._prepare()
            self._ready.set()
            while (item := self._mailbox.take()) is not None:
                handle(item)
        except Exception as error:
            self._on_failure(error)
