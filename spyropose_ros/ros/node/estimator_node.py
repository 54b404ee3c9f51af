"""The process of the estimator node.

Slow imports are inside the functions, so that Ctrl-C ends the process cleanly at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyropose_ros.ros.node import managed_process

if TYPE_CHECKING:
    from spyropose_ros.ros.node.lifecycle_node import EstimatorNode


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return managed_process.run("estimator", _make_node, args)


def _make_node() -> EstimatorNode:
    from spyropose_ros.ros.node.lifecycle_node import EstimatorNode

    return EstimatorNode()


if __name__ == "__main__":
    raise SystemExit(main())
