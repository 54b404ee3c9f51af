"""A TF frame for RViz, estimator/view, with its origin at the objects and the axes of the results.

RViz needs to be told one frame before it shows anything, warns while that is unknown, and looks at
a point of it. So the frame exists from the start, whatever the frame of the results will be, and
moves with the objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.node import Node

from spyropose_ros.ros.interfaces import (
    Detection3DArray,
    Header,
    TFMessage,
    Transform,
    TransformStamped,
    Vector3,
)
from spyropose_ros.ros.node.adaptive_subscription import LATCHED
from spyropose_ros.ros.node.process import run


def view_frame(namespace: str) -> str:
    """Return the name of the frame for the estimator in a namespace."""
    return f"{namespace}/estimator/view".lstrip("/")


class RvizFrame(Node):
    """Publishes the frame anew when the results come in another frame or the objects have left.

    Args:
        **options: passed on to rclpy's Node.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("rviz_frame", **options)
        self._frame = view_frame(self.get_namespace())
        self._parent = ""
        self._origin = np.zeros(3)
        self._publisher = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        waits = f"{self._frame}_waits"  # a child makes the frame exist
        self._publish(Header(frame_id=self._frame), waits, np.zeros(3))
        self.create_subscription(Detection3DArray, "detections_3d", self._on_results, 1)

    def _on_results(self, results: Detection3DArray) -> None:
        parent = results.header.frame_id.lstrip("/")  # as tf2 wants it
        if not parent:
            return
        moved = self._follow(results)
        if parent != self._parent:
            self.get_logger().info(f"RViz shows the frame {parent}")
        elif not moved:
            return
        self._parent = parent
        self._publish(
            Header(stamp=results.header.stamp, frame_id=parent), self._frame, self._origin
        )

    def _follow(self, results: Detection3DArray) -> bool:
        """Return whether the origin had to move because the objects are not there any more."""
        boxes = [d.bbox for d in results.detections if d.bbox.size.x > 0]  # 0: it has no mode
        if not boxes:
            return False
        places = [(b.center.position.x, b.center.position.y, b.center.position.z) for b in boxes]
        centre = np.mean(places, axis=0)
        largest = max(max(b.size.x, b.size.y, b.size.z) for b in boxes)
        if np.linalg.norm(centre - self._origin) <= largest:
            return False
        self._origin = centre
        return True

    def _publish(self, header: Header, child: str, origin: np.ndarray) -> None:
        x, y, z = origin.tolist()
        transform = Transform(translation=Vector3(x=x, y=y, z=z))
        transform.rotation.w = 1.0
        stamped = TransformStamped(header=header, child_frame_id=child, transform=transform)
        self._publisher.publish(TFMessage(transforms=[stamped]))


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return run("rviz_frame", RvizFrame, args)


if __name__ == "__main__":
    raise SystemExit(main())
