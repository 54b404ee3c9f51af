"""The process of a node with networks: start, spin, stop.

Slow imports are inside the functions, so that Ctrl-C ends the process cleanly at any time.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from spyropose_ros.core.errors import SpyroposeError

if TYPE_CHECKING:
    from spyropose_ros.ros.node.managed_node import ManagedNode


def run(name: str, make_node: Callable[[], ManagedNode], args: list[str] | None) -> int:
    """Run a node until it is interrupted.

    Args:
        name: of its logger.
        make_node: imports and makes it.
        args: command line with ROS arguments; sys.argv by default.

    Returns:
        The exit code: 0 after an interrupt, 1 if the node could not start.
    """
    # Not KeyboardInterrupt: even if caught, Python may exit with the status of a crash
    signal.signal(signal.SIGINT, _leave)
    try:
        return _run(name, make_node, args)
    finally:
        _ignore_interrupts()  # another one must not disturb the shutdown of the interpreter


def _run(name: str, make_node: Callable[[], ManagedNode], args: list[str] | None) -> int:
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    node, initialised, code = None, False, 0
    try:
        rclpy.init(args=args)
        initialised = True
        node = make_node()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin_until_future_complete(node.failure)
        if node.failure.done() and (failure := node.failure.result()) is not None:
            raise failure
        return 0
    except ExternalShutdownException:
        return 0
    except Exception as error:
        if initialised and not rclpy.ok():  # interrupted during the start
            return 0
        rclpy.logging.get_logger(name).fatal(_explain(error))
        code = 1
        return code
    finally:
        _ignore_interrupts()
        rclpy.try_shutdown()
        if node is not None:
            _end(node, code)


def _end(node: ManagedNode, code: int) -> NoReturn:
    """End the process at once, also in the middle of a frame, an import or a download.

    Taking down an interpreter with PyTorch takes seconds, and ros2 launch waits for 5.
    """
    node.destroy_node()  # tells the graph; without it the others would wait for a silent node
    sys.stdout.flush()
    os._exit(code)


def _leave(*_: object) -> None:
    raise SystemExit(0)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _explain(error: Exception) -> str:
    """Return one line for an error the user can fix; the traceback for a defect."""
    if isinstance(error, (SpyroposeError, ValueError, OSError, RuntimeError, ImportError)):
        return str(error)
    return "".join(traceback.format_exception(error))
