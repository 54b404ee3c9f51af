"""The process of the detector node.

Slow imports are inside the functions, so that Ctrl-C ends the process cleanly at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyropose_ros.ros.node import managed_process

if TYPE_CHECKING:
    from spyropose_ros.ros.node.detector_node import DetectorNode


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return managed_process.run("detector", _make_node, args)


def _make_node() -> DetectorNode:
    from spyropose_ros.ros.node.detector_node import DetectorNode

    return DetectorNode()


if __name__ == "__main__":
    raise SystemExit(main())
