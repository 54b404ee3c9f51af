"""What sessions share: a worker thread that loads models and then takes the newest images."""

from __future__ import annotations

import gc
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from rclpy.node import Node

from spyropose_ros.ros.interfaces import Header
from spyropose_ros.ros.node.worker import Worker
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.drops import DropCounter, Reason
from spyropose_ros.ros.pipeline.stamps import too_old

T = TypeVar("T")

_REMEDIES = {
    Reason.INACTIVE: "the node is not active: ros2 lifecycle set <node> activate",
    Reason.DISABLED: "switched off by the service ~/enable",
}


class WorkSession(ABC, Generic[T]):
    """Loads models in its own thread, and then always handles the newest item.

    The subclass subscribes, and starts `_worker` when it is ready to handle items.

    Args:
        node: owns what is subscribed to.
        drops: told of everything that is dropped.
        on_failure: gets the exception that ended the thread, in that thread.
    """

    def __init__(
        self, node: Node, drops: DropCounter, on_failure: Callable[[Exception], object]
    ) -> None:
        self._node = node
        self._drops = drops
        self._on_failure = on_failure
        self._refusal: Reason | None = Reason.INACTIVE
        self._closed = False
        self._begun = self._loaded = math.inf  # loading the models, by the monotonic clock
        self._worker: Worker[T] = Worker(self._load, self._discard, self._fail)

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._worker.ready

    # ---- executor thread ---------------------------------------------------------------------

    def refuse(self, reason: Reason | None) -> None:
        """Drop all frames from now on for the reason; None accepts them again."""
        self._refusal = reason

    def close(self, timeout: float) -> bool:
        """Unsubscribe, stop the thread after the current frame, and release the models.

        Args:
            timeout: longest wait for the thread, seconds.

        Returns:
            Whether the thread has ended.
        """
        self._closed = True
        self._refusal = Reason.INACTIVE
        self._unsubscribe()
        ended = self._worker.stop(timeout)
        if self._release():
            free_memory()
        return ended

    @abstractmethod
    def _unsubscribe(self) -> None:
        """Destroy all subscriptions, and drop what is pending."""

    @abstractmethod
    def _release(self) -> bool:
        """Forget the models; return whether there were any, and so PyTorch is imported."""

    def _submit(self, item: T) -> None:
        if self._refusal is not None:
            self._refuse(self._count(item))
        else:
            self._worker.submit(item)

    @abstractmethod
    def _count(self, item: T) -> int:
        """Return the number of images of an item."""

    def _refuse(self, count: int) -> None:
        reason = self._refusal or Reason.INACTIVE
        self._drops.add(reason, _REMEDIES[reason], count)

    def _discard(self, item: T) -> None:
        count = self._count(item)
        if self._refusal is not None:
            self._refuse(count)
        elif self.ready:
            text = "frames arrive faster than the models run, the newest is used"
            self._drops.add(Reason.BUSY, text, count)
        else:
            self._drops.add(Reason.BUSY, "the models are still loading", count)

    # ---- worker thread -----------------------------------------------------------------------

    def _load(self) -> Callable[[T], None]:
        self._begun = time.monotonic()
        handle = self._prepare()
        # Otherwise every full collection goes through PyTorch's objects, 0.1 s without any thread
        gc.collect()
        gc.freeze()
        self._loaded = time.monotonic()
        return handle

    @abstractmethod
    def _prepare(self) -> Callable[[T], None]:
        """Load the models; return what handles an item."""

    def _fail(self, error: Exception) -> None:
        if not self._closed:
            self._on_failure(error)

    def _age(self, header: Header) -> float:
        """Return the seconds since an image was taken; nan before simulated time starts."""
        now = self._node.get_clock().now().nanoseconds
        return (now - nanoseconds(header.stamp)) * 1e-9 if now else float("nan")

    def _is_stale(self, header: Header, max_age: float) -> bool:
        """Tell whether an image is too old, which is counted."""
        now = time.monotonic()
        problem = too_old(self._age(header), max_age, now - self._begun, now - self._loaded)
        if problem is None:
            return False
        self._drops.add(*problem)
        return True

    def _inform(self, text: str) -> None:
        if self._node.context.ok():  # the log is a publisher too and ends with the context
            self._node.get_logger().info(text)

    def _warn(self, text: str) -> None:
        if self._node.context.ok():
            self._node.get_logger().warning(text)


def device_memory() -> str:
    """Return the memory that PyTorch, which must be imported, holds on the GPUs in MB, or none."""
    import torch

    if not torch.cuda.is_initialized():
        return "none"
    held = (torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
    return f"{sum(held) / 1e6:.0f}"


def free_memory() -> None:
    """Release unused GPU memory; call it only once PyTorch is imported."""
    import torch

    gc.unfreeze()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
