"""The estimator node: callbacks that only store, and one worker thread that estimates."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future

from spyropose_ros.ros.camera_info import intrinsics
from spyropose_ros.ros.conversions import nanoseconds
from spyropose_ros.ros.detections import select_targets
from spyropose_ros.ros.diagnostics import (
    Activity,
    BadInput,
    DropCounter,
    Reason,
    explain_silence,
)
from spyropose_ros.ros.frame_matcher import FrameMatcher, Match
from spyropose_ros.ros.images import converter, rgb_image
from spyropose_ros.ros.interfaces import (
    CameraInfo,
    Detection2DArray,
    DiagnosticArray,
    DiagnosticStatus,
    Image,
    KeyValue,
)
from spyropose_ros.ros.outputs import Outputs, Result
from spyropose_ros.ros.parameter_server import ParameterServer
from spyropose_ros.ros.parameters import Parameters
from spyropose_ros.ros.worker import Worker

if TYPE_CHECKING:
    from spyropose_ros.ros.models import Models

SILENCE_PERIOD = 5.0  # seconds
STOP_TIMEOUT = 3.0  # seconds; ros2 launch loses patience after 5


@dataclass(frozen=True)
class Frame:
    """The messages that one estimate needs."""

    image: Image
    detections: Detection2DArray
    camera_info: CameraInfo | None


class EstimatorNode(Node):
    """Publishes the pose distribution of every detected object of every image it can keep up with.

    Args:
        **options: passed on to rclpy's Node.

    Raises:
        ParameterError: if a parameter cannot be used.
    """

    def __init__(self, **options) -> None:
        super().__init__("estimator", **options)
        logger = self.get_logger()
        self.drops = DropCounter(logger.warning, logger.info)
        self.activity = Activity()
        self.failure: Future = Future()  # gets the exception that ended the worker
        self._settings = ParameterServer(self, self._apply)
        self._models: Models | None = None
        self._camera_info: CameraInfo | None = None
        self._last_activity: tuple[Counter[str], int] = (Counter(), 0)
        self._warned: set[str] = set()
        self._latency = float("nan")
        sync = self._settings.current.sync
        self._matcher: FrameMatcher[Image, Detection2DArray] = FrameMatcher(
            round(sync.slop * 1e9), sync.buffer_size, self.drops.add
        )
        self._outputs = Outputs(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._topics = self._subscribe()
        # Steady clock: these reports matter most when simulated time stands still
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self.create_timer(SILENCE_PERIOD, self._report_silence, clock=steady)
        self._worker: Worker[Frame] = Worker(self._prepare, self.failure.set_result)
        self._worker.start()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._worker.ready

    def stop(self) -> bool:
        """Ends the worker after the frame in work; call before destroying the node.

        Returns:
            Whether it has ended within STOP_TIMEOUT.
        """
        return self._worker.stop(STOP_TIMEOUT)

    # ---- executor thread ---------------------------------------------------------------------

    def _subscribe(self) -> list[str]:
        reliability = ReliabilityPolicy[self._settings.current.qos.reliability.upper()]
        newest = QoSProfile(depth=1, reliability=reliability)
        self.create_subscription(Image, "image_rect", self._on_image, newest)
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, newest)
        # Always reliable: they are tiny, and what is lost here is never estimated
        self.create_subscription(Detection2DArray, "detections", self._on_detections, 10)
        return [
            self.resolve_topic_name(name) for name in ("image_rect", "camera_info", "detections")
        ]

    def _on_image(self, message: Image) -> None:
        self.activity.receive(self._topics[0])
        self._submit(self._matcher.add_image(nanoseconds(message.header.stamp), message))

    def _on_camera_info(self, message: CameraInfo) -> None:
        self.activity.receive(self._topics[1])
        self._camera_info = message

    def _on_detections(self, message: Detection2DArray) -> None:
        self.activity.receive(self._topics[2])
        self._submit(self._matcher.add_detections(nanoseconds(message.header.stamp), message))

    def _submit(self, matches: list[Match[Image, Detection2DArray]]) -> None:
        for match in matches:
            if self._worker.submit(Frame(match.image, match.detections, self._camera_info)):
                self.drops.add(
                    Reason.BUSY,
                    "frames come faster than the model runs, the newest is used"
                    if self.ready
                    else "the model is still loading",
                )

    def _apply(self, parameters: Parameters) -> None:
        self._matcher.slop = round(parameters.sync.slop * 1e9)

    def _report_silence(self) -> None:
        (received, published), before = self.activity.snapshot(), self._last_activity
        self._last_activity = received, published
        if published > before[1]:
            return
        if not self.ready:
            self.get_logger().info("the model is still loading")
            return
        self.get_logger().warning(
            explain_silence(
                SILENCE_PERIOD,
                {topic: received[topic] - before[0][topic] for topic in self._topics},
                {topic: self.count_publishers(topic) for topic in self._topics},
                self.drops.summary(),
            )
        )

    def _publish_diagnostics(self) -> None:
        received, published = self.activity.snapshot()
        values = {f"received {topic}": received[topic] for topic in self._topics}
        values["published"] = published
        values |= {f"dropped: {reason.value}": n for reason, n in self.drops.counts().items()}
        values["latency of the last frame (s)"] = f"{self._latency:.3f}"
        status = DiagnosticStatus(
            level=DiagnosticStatus.OK if self.ready else DiagnosticStatus.WARN,
            name=f"{self.get_fully_qualified_name()[1:]}: pose distributions",
            message="running" if self.ready else "loading the model",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    # ---- worker thread -----------------------------------------------------------------------

    def _prepare(self) -> Callable[[Frame], None]:
        start = time.monotonic()
        self._inform("loading PyTorch")
        from spyropose_ros.ros.models import Models  # here, because it takes seconds

        models = Models(self._settings.current, self._inform)
        models.warm_up()
        converter()
        self._models = models
        self._inform(
            f"ready after {time.monotonic() - start:.1f} s: {models}, "
            f"waiting for {', '.join(self._topics)}"
        )
        return self._handle

    def _inform(self, text: str) -> None:
        if self.context.ok():  # the log is a publisher too, and ends with the context
            self.get_logger().info(text)

    def _handle(self, frame: Frame) -> None:
        try:
            self._estimate_and_publish(frame, self._settings.current)
        except BadInput as error:
            self.drops.add(error.reason, str(error))
        except Exception as error:  # whatever one frame does, the next gets its chance
            if self.context.ok():
                self.drops.add(Reason.ERROR, f"{type(error).__name__}: {error}")
                self.get_logger().debug(traceback.format_exc())

    def _estimate_and_publish(self, frame: Frame, parameters: Parameters) -> None:
        header = frame.image.header
        self._check_age(self._age(frame), parameters.sync.max_age)
        if frame.camera_info is None:
            raise BadInput(
                Reason.NO_CAMERA_INFO,
                f"nothing arrived on {self._topics[1]}: publish it beside the image, or remap",
            )
        image = rgb_image(frame.image)
        height, width = image.shape[:2]
        K, warning = intrinsics(frame.camera_info, width, height)
        self._check_consistency(frame, warning)
        targets = select_targets(
            frame.detections,
            width,
            height,
            self._models.classes,
            parameters.detections.min_score,
            parameters.detections.max_count,
            self.drops.add,
        )
        start = time.monotonic()
        distributions = self._models.estimate(image, K, targets)
        elapsed = time.monotonic() - start
        result = Result(header, image, K, targets, distributions, elapsed)
        self._outputs.publish(result, self._models, parameters.output)
        self._latency = self._age(frame)
        if self.activity.publish() == 1:
            self.get_logger().info(
                f"first frame published: {len(targets)} of {len(frame.detections.detections)} "
                f"detections, {1000 * elapsed:.0f} ms"
            )

    def _age(self, frame: Frame) -> float:
        """Seconds since the image was taken; nan while simulated time has not begun."""
        now = self.get_clock().now().nanoseconds
        return (now - nanoseconds(frame.image.header.stamp)) * 1e-9 if now else float("nan")

    def _check_age(self, age: float, max_age: float) -> None:
        if max_age and age > max_age:
            raise BadInput(
                Reason.STALE,
                f"image is {age:.3f} s old, more than sync.max_age = {max_age:g} s: synchronise "
                "the clocks, set use_sim_time for a bag, or raise sync.max_age",
            )

    def _check_consistency(self, frame: Frame, warning: str | None) -> None:
        """Warns once of what is suspicious but may be meant."""
        if warning is not None:
            self._warn_once(f"{self._topics[1]}: {warning}")
        if any(frame.camera_info.d) and "rect" not in self._topics[0]:
            self._warn_once(
                f"camera_info has lens distortion and {self._topics[0]} does not look rectified "
                "by its name: feed a rectified image (image_proc)"
            )
        frame_id = frame.image.header.frame_id
        for topic, message in (
            (self._topics[1], frame.camera_info),
            (self._topics[2], frame.detections),
        ):
            other = message.header.frame_id
            if other not in ("", frame_id):
                self._warn_once(f"{topic} is in frame '{other}' but the image in '{frame_id}'")

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self.get_logger().warning(text)
