"""The viewer's node: ros2 run spyropose_ros viewer."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy

from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.ros.interfaces import (
    CameraInfo,
    CompressedImage,
    Image,
    PoseDistributionArray,
    String,
    TFMessage,
)
from spyropose_ros.ros.node.adaptive_subscription import AdaptiveSubscription
from spyropose_ros.ros.node.parameter_server import ParameterServer
from spyropose_ros.ros.node.process import run
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.parameters import fixed_cameras
from spyropose_ros.viewer.collector import Collector
from spyropose_ros.viewer.parameters import ViewerParameters
from spyropose_ros.viewer.viewer import Viewer

_LOOK = 0.2  # seconds between two looks whether somebody watches
_NICENESS = 10  # the estimator's cores come first
_DEEP = 100  # messages of TF, as tf2 queues


class ViewerNode(LifecycleNode):
    """Shows what an estimator publishes to browsers.

    Configuring opens the port; while the node is active and a browser is connected, it subscribes.

    Args:
        **options: passed on to rclpy's Node.

    Attributes:
        viewer: while it is configured.

    Raises:
        SpyroposeError: a parameter cannot be used, or with ``autostart`` viser is not installed or
            the address not one of this machine.
    """

    viewer: Viewer | None

    def __init__(self, **options: Any) -> None:
        super().__init__("viewer", **options)
        self.viewer = None
        self._sources: list[AdaptiveSubscription] = []
        self._active = False
        self._said: set[str] = set()
        self._settings = ParameterServer(
            self, ViewerParameters(), lambda _: None, lambda: self.viewer is not None
        )
        self.create_timer(_LOOK, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        if self._settings.current.autostart:
            self._open()
            self.trigger_configure()
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the port; fails where viser is not installed or the address is wrong."""
        try:
            self._open()
        except SpyroposeError as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe while somebody watches."""
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; what was shown stays."""
        self._active = False
        self._look()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the port."""
        self.stop()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Do as on_cleanup."""
        self.stop()
        return super().on_shutdown(state)

    def stop(self) -> None:
        """Close the port; call it before destroying the node."""
        self._active = False
        self._unsubscribe()
        if self.viewer is not None:
            self.viewer.close()
            self.viewer = None

    def _open(self) -> None:
        if self.viewer is None:
            settings = self._settings.current
            self.viewer = Viewer(settings.host, settings.port, self._warn)
            self.get_logger().info(f"open {self.viewer.url} in a browser")

    def _look(self) -> None:
        """Subscribe or unsubscribe as somebody watches or not."""
        watched = self._active and self.viewer is not None and self.viewer.watched
        if watched and not self._sources:
            self._subscribe()
        elif not watched:
            self._unsubscribe()

    def _subscribe(self) -> None:
        settings = self._settings.current
        fixed = fixed_cameras(settings.cameras, settings.camera_poses)
        collector = Collector(self._warn, settings.rectified, fixed)

        def show(message: PoseDistributionArray) -> None:
            now = self.get_clock().now().nanoseconds
            latency = 1e-9 * (now - nanoseconds(message.header.stamp))
            try:
                moment = collector.moment(message, latency)
            except SpyroposeError as error:
                self._warn(f"distributions are not shown: {error}")
                return
            if self.viewer is not None:
                self.viewer.show(moment)

        transport = settings.image_transport == "compressed"
        name, kind = ("image_rect/compressed", CompressedImage) if transport else (
            "image_rect", Image
        )  # fmt: skip
        newest = QoSProfile(
            depth=settings.qos.depth,
            reliability=ReliabilityPolicy[settings.qos.reliability.upper()],
        )
        for camera in settings.cameras or ("",):
            prefix = f"{camera}/" if camera else ""
            add_info = partial(collector.add_camera_info, camera)
            self._add(kind, prefix + name, partial(collector.add_image, camera), newest)
            self._add(CameraInfo, f"{prefix}camera_info", add_info, newest, latched=True)
        tf = QoSProfile(depth=_DEEP)
        moving, static = (partial(collector.add_transforms, static=each) for each in (False, True))
        self._add(TFMessage, "/tf", moving, tf)
        self._add(TFMessage, "/tf_static", static, tf, latched=True)
        self._add(
            String,
            "estimator/model_info",
            collector.add_model_info,
            QoSProfile(depth=1),
            latched=True,
        )
        self._add(PoseDistributionArray, "estimator/distributions", show, QoSProfile(depth=1))

    def _add(
        self,
        kind: type,
        name: str,
        receive: Callable[[Any], None],
        qos: QoSProfile,
        latched: bool = False,
    ) -> None:
        self._sources.append(
            AdaptiveSubscription(self, kind, name, receive, qos, say=self._warn, latched=latched)
        )

    def _unsubscribe(self) -> None:
        for subscription in self._sources:
            subscription.close()
        self._sources = []

    def _warn(self, text: str) -> None:
        """Say something once."""
        if text not in self._said:
            self._said.add(text)
            self.get_logger().warning(text)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    import torch  # the plot's

    os.nice(_NICENESS)
    torch.set_num_threads(1)
    return run("viewer", ViewerNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
