"""One thread that owns the model and always works on the newest frame. Knows no ROS."""

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

    def put(self, item: T) -> bool:
        """Stores ``item``.

        Returns:
            Whether an older item was thrown away for it.
        """
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
        return replaced

    def take(self) -> T | None:
        """Waits for an item and removes it; returns None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """Ends all waiting, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Worker(Generic[T]):
    """Runs ``prepare`` and then ``handle`` for the newest submitted item, all in one thread.

    Args:
        prepare: slow start-up work, such as loading a model; returns the function that handles an
            item. That function deals with its own errors.
        on_failure: called, in the thread, with the exception that ended it.
    """

    def __init__(
        self,
        prepare: Callable[[], Callable[[T], None]],
        on_failure: Callable[[Exception], object],
    ) -> None:
        self._prepare = prepare
        self._on_failure = on_failure
        self._mailbox: Mailbox[T] = Mailbox()
        self._ready = threading.Event()
        # daemon: a download that hangs while the model loads must not keep the process alive
        self._thread = threading.Thread(target=self._run, name="estimator", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether ``prepare`` has finished."""
        return self._ready.is_set()

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def submit(self, item: T) -> bool:
        """Hands over an item; returns whether an unhandled older one was thrown away for it."""
        return self._mailbox.put(item)

    def stop(self, timeout: float | None = None) -> bool:
        """Lets the present item finish, then ends the thread.

        Args:
            timeout: longest wait in seconds; None waits without limit.

        Returns:
            Whether the thread has ended.
        """
        self._mailbox.close()
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
