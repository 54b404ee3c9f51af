"""A TF frame for RViz, estimator/view, that equals the frame of the results, whatever that is.

RViz needs to be told one frame before it shows anything, and without TF it warns.
"""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

from spyropose_ros.ros.interfaces import Detection3DArray, Header, TFMessage, TransformStamped
from spyropose_ros.ros.node.adaptive_subscription import LATCHED
from spyropose_ros.ros.node.process import run


def view_frame(namespace: str) -> str:
    """Return the name of the frame for the estimator in a namespace."""
    return f"{namespace}/estimator/view".lstrip("/")


class RvizFrame(Node):
    """Publishes the frame whenever results come in another frame than before.

    Args:
        **options: passed on to rclpy's Node.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("rviz_frame", **options)
        self._parent = ""
        self._publisher = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.create_subscription(Detection3DArray, "detections_3d", self._on_results, 1)

    def _on_results(self, results: Detection3DArray) -> None:
        parent = results.header.frame_id.lstrip("/")  # as tf2 wants it
        if parent and parent != self._parent:
            self._parent = parent
            transform = TransformStamped(child_frame_id=view_frame(self.get_namespace()))
            transform.header = Header(stamp=results.header.stamp, frame_id=parent)
            transform.transform.rotation.w = 1.0
            self._publisher.publish(TFMessage(transforms=[transform]))
            self.get_logger().info(f"RViz shows the frame {parent}")


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return run("rviz_frame", RvizFrame, args)


if __name__ == "__main__":
    raise SystemExit(main())
