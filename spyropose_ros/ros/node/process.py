"""The process of a small node: start, spin until it is interrupted, end with exit code 0."""

from __future__ import annotations

import signal
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from spyropose_ros.core.errors import SpyroposeError


def run(name: str, make_node: Callable[[], Node], args: list[str] | None) -> int:
    """Run a node until it is interrupted.

    Args:
        name: of the logger.
        make_node: makes the node.
        args: command line with ROS arguments; None takes sys.argv.

    Returns:
        The exit code: 0 after an interrupt, 1 if the node could not start.
    """
    # rclpy's own handler ends the spinning; Python's would raise at any point of the program
    signal.signal(signal.SIGINT, lambda *_: None)
    rclpy.init(args=args)
    try:
        node = make_node()
        # The timeout: rclpy wakes the wait once, just before rclpy.ok() turns false
        while rclpy.ok():
            rclpy.spin_once(node, timeout_sec=1.0)
    except ExternalShutdownException:
        pass
    except Exception as error:
        if rclpy.ok():  # else interrupted during the start: whatever ran has lost its context
            if not isinstance(error, (SpyroposeError, ValueError)):
                raise
            rclpy.logging.get_logger(name).fatal(str(error))
            return 1
    finally:
        # Ctrl-C under ros2 launch interrupts twice, and Python ends without its handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        rclpy.try_shutdown()
    return 0
