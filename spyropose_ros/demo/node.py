"""What the nodes of the demo share: start, stop and topics."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

from spyropose_ros.core.errors import SpyroposeError

IMAGE = "image_rect"
CAMERA_INFO = "camera_info"
DETECTIONS = "detections"
DISTRIBUTIONS = "estimator/distributions"
POSES = "estimator/poses"
TRUTH = "demo/truth"
VISIBLE = "demo/visible"
"""Exact box of what is visible; the score of the class is the visible fraction, and that of the
optional second hypothesis "handle" is the handle's share of the visible pixels."""

QUEUE = 10  # messages; all topics of the demo are reliable


class DemoNode(Node):
    """A node that ends by itself."""

    def __init__(self, name: str):
        super().__init__(name)
        self.done: Future[int] = Future()

    def finish(self, exit_code: int) -> None:
        """End the process once the current callback has returned."""
        if not self.done.done():
            self.done.set_result(exit_code)

    def setting(self, name: str, default: Any, description: str) -> Any:
        """Declare a read-only parameter; return its value."""
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return self.declare_parameter(name, default, descriptor).value


def run(make_node: Callable[[], DemoNode], interrupted: int = 0) -> int:
    """Run a node until it has finished or is interrupted.

    Args:
        make_node: Makes the node.
        interrupted: Exit code after an interrupt.

    Returns:
        The exit code; 1 when the node could not start or failed.
    """
    # rclpy's own handler ends the spinning; Python's would raise KeyboardInterrupt at any point,
    # even during clean-up.
    signal.signal(signal.SIGINT, lambda *_: None)
    rclpy.init()
    executor = None
    try:
        node = make_node()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        # The timeout: rclpy wakes the wait once, just before rclpy.ok() turns false
        while rclpy.ok() and not node.done.done():
            executor.spin_once(timeout_sec=1.0)
        code = node.done.result() if node.done.done() else None
        return interrupted if code is None else code
    except Exception as error:
        if not rclpy.ok():  # interrupted: whatever was running has lost its context
            return interrupted
        if not isinstance(error, SpyroposeError | ValueError | OSError):
            raise
        rclpy.logging.get_logger("demo").fatal(str(error))
        return 1
    finally:
        # Ctrl-C under ros2 launch interrupts twice, and Python ends without its handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if executor is not None:
            executor.shutdown(0)  # before the context, or its destructor complains
        rclpy.try_shutdown()
