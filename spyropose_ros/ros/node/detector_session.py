"""What the detector node runs between configure and cleanup: images in, boxes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rclpy.node import Node
from rclpy.publisher import Publisher

from spyropose_ros.core.bundle_files import bundle_name
from spyropose_ros.ros.interfaces import CompressedImage, Detection2DArray, Header, Image
from spyropose_ros.ros.messages.detection_messages import detection_message
from spyropose_ros.ros.node.health import Activity, Counts, Work
from spyropose_ros.ros.node.inputs import Inputs
from spyropose_ros.ros.node.work_session import WorkSession, device_memory, free_memory
from spyropose_ros.ros.pipeline import images
from spyropose_ros.ros.pipeline.assembler import Input
from spyropose_ros.ros.pipeline.camera_frame import Detection, nanoseconds
from spyropose_ros.ros.pipeline.detector_parameters import DetectorNodeParameters
from spyropose_ros.ros.pipeline.drops import BadInputError, DropCounter, Reason
from spyropose_ros.ros.pipeline.following import RateLimit
from spyropose_ros.ros.pipeline.frame_matcher import UNSTAMPED
from spyropose_ros.ros.pipeline.frame_source import Role

if TYPE_CHECKING:
    from spyropose_ros.detector.detector import Detector


class DetectorSession(WorkSession[Any]):
    """Subscribes, loads the detector in its own thread, and then always takes the newest image.

    Args:
        node: owns the subscription.
        read: gives the present parameters.
        bundle: of the detector.
        publisher: of the detections.
        activity: told of everything that arrives and is published.
        drops: told of everything that is dropped.
        on_failure: gets the exception that ended the thread, in that thread.

    Attributes:
        topics: that are subscribed to.
    """

    topics: Sequence[str]

    def __init__(
        self,
        node: Node,
        read: Callable[[], DetectorNodeParameters],
        bundle: str,
        publisher: Publisher,
        activity: Activity,
        drops: DropCounter,
        on_failure: Callable[[Exception], object],
    ) -> None:
        super().__init__(node, drops, on_failure)
        self._read = read
        self._bundle = bundle
        self._publisher = publisher
        self._activity = activity
        self._limit = RateLimit()
        self._detector: Detector | None = None
        parameters = read()
        compressed = parameters.image_transport == "compressed"
        name, kind = ("image/compressed", CompressedImage) if compressed else ("image", Image)
        entry = Input("", Role.IMAGE, name, node.resolve_topic_name(name), kind)
        self._inputs = Inputs(node, [entry], parameters, activity, drops.add, self._on_image)
        self.topics = [entry.topic]
        self._worker.start()

    def values(self, counts: Counts) -> dict[str, str]:
        """Return what the detector is, for /diagnostics."""
        loaded = self._detector is not None  # else PyTorch may be half imported
        return {
            "device memory (MB)": device_memory() if loaded else "none",
            "models": bundle_name(self._bundle),
            "boxes found": str(counts.found),
        }

    # ---- executor thread ---------------------------------------------------------------------

    def apply(self, parameters: DetectorNodeParameters) -> None:
        """Nothing to do: every image is handled by the parameters of its time."""

    def look_around(self) -> None:
        """Nothing about the graph is suspicious."""

    def reset(self) -> None:
        """Allow a detection at once."""
        self._limit = RateLimit()

    def _on_image(self, entry: Input, message: Any) -> None:
        if nanoseconds(message.header.stamp) == 0:
            self._drops.add(Reason.IMAGE_STAMP, UNSTAMPED)
        else:
            self._activity.match(1)
            self._submit(message)

    def _count(self, item: Any) -> int:
        return 1

    def _unsubscribe(self) -> None:
        self._inputs.close()

    def _release(self) -> bool:
        loaded, self._detector = self._detector is not None, None
        return loaded

    # ---- worker thread -----------------------------------------------------------------------

    def _prepare(self) -> Callable[[Any], None]:
        start = time.monotonic()
        self._inform("loading PyTorch")
        import torch  # here: it takes seconds

        from spyropose_ros.ros.pipeline.finder import load_detector

        parameters = self._read()
        if parameters.threads:
            torch.set_num_threads(parameters.threads)
        detector = load_detector(self._bundle, parameters.device, self._inform)
        images.converter()
        if self._closed:  # cleaned up meanwhile
            del detector
            free_memory()
            return self._handle
        self._detector = detector
        self._inform(
            f"ready after {time.monotonic() - start:.1f} s: {bundle_name(self._bundle)} finds "
            f"{_shortened(detector.classes)} on {detector.device}, waiting for {self.topics[0]}"
        )
        return self._handle

    def _handle(self, image: Any) -> None:
        detector, parameters = self._detector, self._read()
        if detector is None or self._refusal is not None:  # cleaned up meanwhile
            self._refuse(1)
        elif not self._is_stale(image.header, parameters.sync.max_age):
            try:
                self._detect(image, detector, parameters)
            except BadInputError as error:
                self._drops.add(error.reason, str(error))
            except Exception as error:  # whatever one image does, the next is processed
                if self._node.context.ok():
                    self._drops.add(Reason.ERROR, f"{type(error).__name__}: {error}")

    def _detect(self, image: Any, detector: Detector, parameters: DetectorNodeParameters) -> None:
        from spyropose_ros.ros.pipeline.finder import detect

        header: Header = image.header
        start, age = time.monotonic(), self._age(header)
        settings = parameters.detector
        if not self._limit.allows(nanoseconds(header.stamp) * 1e-9, settings.rate):
            text = f"detector.rate = {settings.rate:g} Hz is less than the camera's"
            raise BadInputError(Reason.NO_DETECTIONS, text)
        decoded = images.decode(image)
        self._limit.count()  # not before: what cannot be read was not searched
        found = detect(detector, decoded, settings.min_score, settings.max_count)
        seconds = time.monotonic() - start
        detections = [
            detection_message(header, *each)
            for each in zip(found.boxes, found.names, found.scores, strict=True)
        ]
        self._publisher.publish(Detection2DArray(header=header, detections=detections))
        detection = Detection(seconds, len(found))
        if self._activity.publish(Work(1, age, seconds, self._age(header), detection)) == 1:
            self._inform(f"first image searched: boxes: {len(found)}, {1000 * seconds:.0f} ms")


def _shortened(names: Sequence[str], count: int = 10) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" * (len(names) > count))
