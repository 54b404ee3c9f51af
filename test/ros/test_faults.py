"""What goes wrong in the field, on a real graph: the table of docs/reliability.md, fault by fault.

Of every fault: the node stays alive, counts the named reason in /diagnostics, says once what to do,
and answers as before once the fault is gone.
"""

import contextlib
import dataclasses
import gc
import io
import re
import shutil
import threading
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from PIL import Image as PillowImage
from rcl_interfaces.msg import Log
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray

import graph
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.kernels.torch_heads import FusedHeads
from spyropose_ros.ros.messages.invariants import check_invariants
from spyropose_ros.ros.node import managed_node as node_module
from spyropose_ros.ros.node.lifecycle_node import EstimatorNode
from spyropose_ros.ros.pipeline.drops import Reason
from spyropose_ros.ros.pipeline.parameters import ParameterError
from spyropose_ros.ros.pipeline.tf_buffer import TransformError
from spyropose_ros.scenes.renderer import Renderer

NAN = float("nan")
GOOD = graph.detection(name="good")
SILENCE = 1.0  # seconds, instead of 5
DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


def compressed_message(nanoseconds: int, data: bytes | None = None) -> CompressedImage:
    """A PNG file of the picture, or other data."""
    if data is None:
        file = io.BytesIO()
        PillowImage.fromarray(graph.picture()).save(file, "PNG")
        data = file.getvalue()
    message = graph.stamp(CompressedImage(), nanoseconds)
    message.format, message.data = "png", array("B", data)
    return message


def depth_message(nanoseconds: int, width=graph.WIDTH, height=graph.HEIGHT) -> Image:
    """A wall behind which the object cannot be, but for its size."""
    message = graph.stamp(Image(), nanoseconds)
    message.height, message.width, message.encoding = height, width, "16UC1"
    message.step = 2 * width
    message.data = array("B", np.full((height, width), 300, np.uint16).tobytes())
    return message


def changed(message, **values):
    for name, value in values.items():
        setattr(message, name, value)
    return message


# ---- the graph -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a node needs to meet a fault.

    Args:
        parameters: of the node, besides those of all.
        topics: its inputs, with what a valid message is made by.
        frames: of the cameras, by the prefix of their topics.
    """

    parameters: dict
    topics: dict[str, tuple[type, Callable]]
    frames: dict[str, str] = dataclasses.field(default_factory=lambda: {"": graph.FRAME})


RAW = {"image_rect": (Image, graph.image_message)}
PNG = {"image_rect/compressed": (CompressedImage, compressed_message)}
WITH_DEPTH = {"depth": (Image, depth_message)} | RAW
SETUPS = {
    # fixed_frame: TF is listened to, but only the temporal filter needs it
    "plain": Setup({"fixed_frame": "world"}, RAW),
    "uncalibrated": Setup({}, RAW),
    "verified": Setup({"search__verify": True}, RAW),
    "compressed": Setup({"image_transport": "compressed"}, PNG),
    "best effort": Setup({"qos__reliability": "best_effort"}, RAW),
    "depth": Setup({"depth_image": True}, WITH_DEPTH),
    "cameras": Setup(
        {
            "cameras": ["left", "right"],
            "camera_poses": ["left=0 0 0 0 0 0 1"],
            "fixed_frame": "world",
            "views__wait": 1.0,
        },
        RAW,
        {"left/": "left_optical_frame", "right/": "right_optical_frame"},
    ),
}


class Bench:
    """A node among a camera, a detector, and listeners to its answers, log and diagnostics."""

    def __init__(self, name: str, bundle: str) -> None:
        self.setup = SETUPS[name]
        namespace = "/faults_" + name.replace(" ", "_")
        values = {"objects": [bundle], "device": "cpu", "search__beam": 16, "sync__max_age": 60.0}
        self.node = EstimatorNode(
            namespace=namespace,
            parameter_overrides=graph.overrides(**values, **self.setup.parameters),
        )
        self.peer = graph.Peer(namespace, self.node)
        for unused in (self.peer.image, self.peer.camera_info, self.peer.detections):
            self.peer.node.destroy_publisher(unused)  # this bench has its own, by topic
        self.answers = self.peer.distributions
        self.spin_until = self.peer.spin_until
        self.now = self.peer.now
        self.peer_node = self.peer.node
        self._log: list[Log] = []
        self._reports: list[DiagnosticArray] = []
        create = self.peer_node.create_subscription
        create(Log, "/rosout", self._log.append, 1000)
        create(DiagnosticArray, "/diagnostics", self._reports.append, 10)
        self.transforms = self.peer_node.create_publisher(TFMessage, "/tf", 10)
        kinds = {topic: kind for topic, (kind, _) in self.setup.topics.items()}
        kinds |= {"camera_info": CameraInfo, "detections": Detection2DArray}
        self.publishers = {
            camera + topic: self.peer_node.create_publisher(kind, camera + topic, 10)
            for camera in self.setup.frames
            for topic, kind in kinds.items()
        }
        # The clock of the throttle stands still within a test and leaps between tests
        self._throttle_time = 0.0
        self.node.drops._clock = lambda: self._throttle_time
        self.spin_until(
            lambda: (
                all(each.get_subscription_count() for each in self.publishers.values())
                and self.node.ready
                and self.peer_node.count_publishers("estimator/distributions")
                and self.peer_node.count_subscribers("/rosout")
                and self._reports
            )
        )
        if len(self.setup.frames) > 1:  # nobody is waited for who has never been seen
            self.send()
            self.spin_until(lambda: self.answers)
        self.begin()

    def begin(self) -> None:
        """From here on counts and lines are new, and every reason may be said again."""
        self._throttle_time += 3600.0
        self._before = self.node.drops.counts()
        self._first_line = len(self._log)

    def dropped(self) -> dict[Reason, int]:
        """Drops since `begin`."""
        counts = self.node.drops.counts()
        new = {reason: count - self._before.get(reason, 0) for reason, count in counts.items()}
        return {reason: count for reason, count in new.items() if count}

    def lines(self, text: str) -> list[Log]:
        """What the node has logged since `begin` with a text in it."""
        name = self.node.get_logger().name
        return [e for e in self._log[self._first_line :] if e.name == name and text in e.msg]

    def report(self):
        """The newest status in /diagnostics."""
        name = self.node.get_fully_qualified_name()[1:] + ": pose distributions"
        return [s for report in self._reports for s in report.status if s.name == name][-1]

    def reported(self, reason: Reason) -> int:
        """The count of a reason in /diagnostics since `begin`."""
        values = {value.key: value.value for value in self.report().values}
        found = [int(count) for key, count in values.items() if key.endswith(f": {reason.value}")]
        return sum(found) - self._before.get(reason, 0)

    def asked(self, topic: str) -> ReliabilityPolicy:
        """What the node asks of the publishers of a topic."""
        name = self.node.resolve_topic_name(topic)
        (found,) = self.node.get_subscriptions_info_by_topic(name)
        return found.qos_profile.reliability

    def await_drops(self, reason: Reason, count: int = 1) -> None:
        self.spin_until(lambda: self.dropped().get(reason, 0) >= count)

    def publish(self, topic: str, message) -> None:
        """Publishes, and waits until the node has it: topics are not ordered among themselves."""
        full = self.peer_node.resolve_topic_name(topic)
        before = self.node.activity.counts().received[full]
        self.publishers[topic].publish(message)
        self.spin_until(lambda: self.node.activity.counts().received[full] > before)

    def image(self, nanoseconds: int, camera: str = "", **changes) -> None:
        for topic, (_, make) in self.setup.topics.items():
            message = changed(make(nanoseconds), **changes)
            message.header.frame_id = self.setup.frames[camera]
            self.publish(camera + topic, message)

    def detections(self, nanoseconds: int, *detections, camera: str = "") -> None:
        message = graph.detections_message(nanoseconds, *(detections or [GOOD]))
        message.header.frame_id = self.setup.frames[camera]
        self.publish(camera + "detections", message)

    def camera_info(self, nanoseconds: int, camera: str = "", **changes) -> None:
        message = changed(graph.camera_info_message(nanoseconds), **changes)
        message.header.frame_id = self.setup.frames[camera]
        self.publish(camera + "camera_info", message)

    def move_cameras(self, nanoseconds: int) -> None:
        """Says where the camera without a fixed pose is."""
        message = TransformStamped(child_frame_id="right_optical_frame")
        message.header.frame_id = "world"
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, graph.SECOND)
        message.transform.rotation.w = 1.0
        self.transforms.publish(TFMessage(transforms=[message]))
        lookup = self.node._session._transforms.lookup

        def known() -> bool:
            try:
                return lookup("world", "right_optical_frame", nanoseconds) is not None
            except TransformError:
                return False

        self.spin_until(known)

    def send(self, *detections, image=None, info=None, cameras=None) -> int:
        """Publishes a frame, valid but for the changes; returns its stamp."""
        now = self.now()
        if "right/" in self.setup.frames and image is None:
            self.move_cameras(now)
        for camera in cameras or self.setup.frames:
            self.camera_info(now, camera, **(info or {}))
            self.image(now, camera, **(image or {}))
            self.detections(now, *detections, camera=camera)
        return now

    def answer(self, *detections, **frame):
        """Publishes a frame and returns the answer to it."""
        return self.await_answer(self.send(*detections, **frame))

    def await_answer(self, nanoseconds: int):
        stamp = graph.image_message(nanoseconds).header.stamp
        self.spin_until(lambda: any(answer.header.stamp == stamp for answer in self.answers))
        (found,) = [answer for answer in self.answers if answer.header.stamp == stamp]
        return found

    def poses(self, detection=GOOD) -> list:
        """The answer to a valid frame."""
        (message,) = self.answer(detection).distributions
        check_invariants(message)
        return message.poses

    def call(self, kind: type, name: str, request):
        """Calls a service of the node."""
        return graph.call(self.peer_node, self.spin_until, kind, name, request)

    def set(self, name: str, value) -> None:
        (result,) = self.node.set_parameters([Parameter(name, value=value)])
        assert result.successful, result.reason

    def close(self) -> None:
        self.peer.close()


@pytest.fixture(scope="module")
def benches(mug_bundle, meshed_bundle):
    """One node per setup for all faults: each must survive the whole module."""
    started: dict[str, Bench] = {}

    def bench(name: str) -> Bench:
        if name not in started:
            verified = SETUPS[name].parameters.get("search__verify")
            started[name] = Bench(name, meshed_bundle if verified else mug_bundle)
        started[name].begin()
        return started[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_module, "SILENCE_PERIOD", SILENCE)
        yield bench
        for each in started.values():
            each.close()


@pytest.fixture(scope="module")
def expected(benches):
    """The right poses, by setup: from before any fault."""
    known: dict[str, list] = {}

    def poses(name: str) -> list:
        # the same camera and picture, whatever the transport
        source = name if name in ("depth", "cameras", "verified") else "plain"
        if source not in known:
            known[source] = benches(source).poses()
        return known[source]

    return poses


# ---- the table -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Fault:
    """One row.

    Args:
        inject: makes the fault happen once; checks what else must be true while it lasts.
        reason: what it is counted as.
        says: what the log line contains: the remedy.
        setup: where it happens.
        count: how often it is counted; None where that is up to the middleware.
        also: reasons that may be counted besides.
        mend: ends the fault where the next valid frame does not.
    """

    inject: Callable[[Bench], object]
    reason: Reason
    says: str
    setup: str = "plain"
    count: int | None = 1
    also: tuple[Reason, ...] = ()
    mend: Callable[[Bench], object] = lambda bench: None


def bad_image(says: str, **changes) -> Fault:
    return Fault(lambda bench: bench.send(image=changes), Reason.BAD_IMAGE, says)


def bad_file(says: str, data: bytes) -> Fault:
    def inject(bench):
        bench.send(image={"data": array("B", data)})

    return Fault(inject, Reason.BAD_IMAGE, says, "compressed")


def bad_info(says: str, **changes) -> Fault:
    return Fault(lambda bench: bench.send(info=changes), Reason.BAD_CAMERA_INFO, says)


def bad_detection(reason: Reason, says: str, detection) -> Fault:
    """The other detections of the frame must not suffer."""

    def inject(bench):
        answer = bench.answer(detection, GOOD)
        assert [d.detection_id for d in answer.distributions] == ["good"]

    return Fault(inject, reason, says)


def bad_depth(reason: Reason, says: str, **changes) -> Fault:
    """The frame is answered without depth."""

    def inject(bench):
        now = bench.now()
        bench.camera_info(now)
        if changes:
            bench.publish("depth", changed(depth_message(now), **changes))
        bench.publish("image_rect", graph.image_message(now))
        bench.detections(now)
        (message,) = bench.await_answer(now).distributions
        check_invariants(message)

    return Fault(inject, reason, says, "depth")


def with_model(change: Callable, target: type, method: str, reason: Reason, **options) -> Callable:
    """Lets a method of the model misbehave for one frame."""

    def inject(bench):
        original = getattr(target, method)
        before = bench.dropped().get(reason, 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, method, lambda *given: change(original, *given))
            bench.send(*options.get("detections", ()))
            bench.await_drops(reason, before + 1)

    return inject


def raising(error: Exception) -> Callable:
    def change(*_):
        raise error

    return change


def exhaust_memory(*_):
    torch.empty(2**60, dtype=torch.uint8)


def in_parts(bench: Bench) -> None:
    """Memory suffices for one box at a time; the answer is that of enough memory."""
    estimate = Estimator.estimate

    def hungry(self, image, K, boxes, *more):
        if len(boxes) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0")
        return estimate(self, image, K, boxes, *more)

    pair = graph.detection(x=50.0), graph.detection(x=110.0)
    enough = bench.answer(*pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Estimator, "estimate", hungry)
        scarce = bench.answer(*pair)
    # The pixels of crops are rounded, of a batch now and then to another value.
    entropies = [[d.entropy for d in answer.distributions] for answer in (scarce, enough)]
    assert entropies[0] == pytest.approx(entropies[1], abs=1e-3)


def without_renderings(bench: Bench) -> None:
    """The answer is that of a node that does not verify."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Renderer, "render", raising(RuntimeError("no room for the rays")))
        found = bench.answer()
    check_invariants(found.distributions[0])


def before_the_calibration(bench: Bench) -> None:
    now = bench.now()
    bench.image(now)
    bench.detections(now)


def time_set_back(bench: Bench) -> None:
    now = bench.now()
    bench.image(now)
    bench.detections(now + graph.SECOND // 2)  # waits for its image
    back = now - 5 * graph.SECOND
    bench.image(back)
    bench.detections(back)
    bench.await_answer(back)


def late_detections(bench: Bench) -> None:
    first = bench.now() - 300 * graph.SECOND // 1000
    for index in range(21):
        bench.image(first + index * 12 * graph.SECOND // 1000)
    bench.detections(first)


def foreign_stamp(bench: Bench) -> None:
    now = bench.now()
    bench.image(now)
    bench.image(now + graph.SECOND // 5)
    bench.detections(now + graph.SECOND // 10)


def old_frame(bench: Bench) -> None:
    bench.camera_info(bench.now())
    old = bench.now() - 100 * graph.SECOND
    bench.image(old)
    bench.detections(old)


def best_effort(topic: str, kind: type) -> Callable[[Bench], None]:
    """Another publisher offers less than is asked: what it says is used all the same."""

    def inject(bench: Bench) -> None:
        reliable = bench.publishers[topic]
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        weak = bench.publishers[topic] = bench.peer_node.create_publisher(kind, topic, qos)
        bench.spin_until(weak.get_subscription_count)
        bench.answer()
        bench.publishers[topic] = reliable
        bench.peer_node.destroy_publisher(weak)
        bench.spin_until(lambda: bench.asked(topic) == ReliabilityPolicy.RELIABLE)
        bench.spin_until(lambda: reliable.get_subscription_count() == 1)

    return inject


def burst(bench: Bench) -> None:
    """Twenty images at once; the middleware keeps qos.depth = 5 of them."""
    first = bench.now()
    for index in range(20):
        bench.publishers["image_rect"].publish(graph.image_message(first + index))


@contextlib.contextmanager
def held_model():
    """Makes every estimate wait: yields the events that one has begun, and that lets it go on."""
    busy, go_on = threading.Event(), threading.Event()
    estimate = Estimator.estimate

    def slow(*given):
        busy.set()
        assert go_on.wait(60)
        return estimate(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Estimator, "estimate", slow)
        yield busy, go_on


def faster_than_the_model(bench: Bench) -> None:
    """One frame is in work, of three more the newest is answered."""
    with held_model() as (busy, go_on):
        count = len(bench.answers)
        first = bench.send()
        bench.spin_until(busy.is_set)
        for _ in range(2):
            bench.send()
        last = bench.send()
        go_on.set()
        bench.await_answer(first)
        bench.await_answer(last)
        assert len(bench.answers) == count + 2


def disabled(bench: Bench) -> None:
    """The frame in work is not published, nor are later ones."""
    busy, go_on = threading.Event(), threading.Event()
    estimate = Estimator.estimate

    def slow(*given):
        busy.set()
        assert go_on.wait(60)
        return estimate(*given)

    count = len(bench.answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Estimator, "estimate", slow)
        before = bench.dropped().get(Reason.DISABLED, 0)
        bench.send()
        bench.spin_until(busy.is_set)
        assert bench.call(SetBool, "enable", SetBool.Request(data=False)).message == "disabled"
        go_on.set()
        bench.await_drops(Reason.DISABLED, before + 1)
    bench.send()
    bench.await_drops(Reason.DISABLED, before + 2)
    assert len(bench.answers) == count
    assert bench.call(SetBool, "enable", SetBool.Request(data=True)).message == "running"


def broken_transform(bench: Bench) -> None:
    message = TransformStamped(child_frame_id="camera_link")
    message.header.frame_id, message.header.stamp.sec = "base_link", 1
    message.transform.rotation.w = NAN
    bench.transforms.publish(TFMessage(transforms=[message]))


def filter_without_transforms(bench: Bench) -> None:
    bench.set("temporal.enabled", True)
    assert len(bench.answer().distributions) == 1


def silent_transforms(bench: Bench) -> None:
    """One camera's place is unknown: the other one is enough for an answer."""
    last = bench.now()
    bench.move_cameras(last)
    bench.spin_until(lambda: bench.now() > last + graph.SECOND // 4)
    assert len(bench.answer(image={"is_bigendian": 0}).distributions) == 1


def one_camera_dies(bench: Bench) -> None:
    """The other one goes on after views.wait."""
    assert len(bench.answer(cameras=["left/"]).distributions) == 1


FAULTS = {
    # calibration
    "no camera_info": Fault(
        before_the_calibration,
        Reason.NO_CAMERA_INFO,
        "publish it along with the image, or remap",
        "uncalibrated",
    ),
    "zero K and P": bad_info("calibrate the camera", k=[0.0] * 9, p=[0.0] * 12),
    "uncalibrated camera": bad_info(
        "zero K and P: calibrate the camera", k=[0.0] * 9, p=[0.0] * 12, width=0, height=0
    ),
    "NaN in P": bad_info("not finite: calibrate the camera", p=[NAN] * 12),
    "zero focal length": bad_info("fx = 0, fy = 0 in P: calibrate", p=[0.0] * 6 + [1.0] * 6),
    "calibration of another size": bad_info(
        "use the camera_info of this image stream", width=1920, height=1080
    ),
    "binning already applied": bad_info(
        "give it the size and K of the whole sensor, or no binning", binning_x=2, binning_y=2
    ),
    # images
    "unknown encoding": bad_image("publish one of rgb8", encoding="32FC1"),
    "truncated data": bad_image("image data is cut off", data=graph.image_message(1).data[:-1]),
    "step too small": bad_image("fix the publisher", step=7),
    "0x0 image": bad_image("image is empty (0x0)", width=0, height=0),
    "corrupt JPEG": bad_file("check the network", bytes(compressed_message(1).data)[:-2000]),
    "no JPEG at all": bad_file("set the publisher's format to jpeg or png", b"\xff\xd8nothing"),
    "depth as image": bad_image("publish one of rgb8", encoding="16UC1"),
    "empty file": bad_file("neither JPEG, PNG nor TIFF", b""),
    # detections
    "empty results": bad_detection(
        Reason.UNKNOWN_CLASS, "detection has no class", graph.detection(None)
    ),
    "unknown class": bad_detection(
        Reason.UNKNOWN_CLASS, "add the model to objects", graph.detection("person")
    ),
    "hostile class": bad_detection(
        Reason.UNKNOWN_CLASS,
        r"'../../%s{}\n[FATAL] forged\x1b[2J'",
        graph.detection("../../%s{}\n[FATAL] forged\x1b[2J"),
    ),
    "NaN centre": bad_detection(Reason.BAD_BOX, "fix the detector", graph.detection(x=NAN)),
    "NaN size": bad_detection(Reason.BAD_BOX, "fix the detector", graph.detection(size_y=NAN)),
    "infinite size": bad_detection(
        Reason.BAD_BOX, "not finite", graph.detection(size_y=float("inf"))
    ),
    "zero size": bad_detection(Reason.BAD_BOX, "size 0 x 50", graph.detection(size_x=0.0)),
    "negative size": bad_detection(Reason.BAD_BOX, "size -4 x 50", graph.detection(size_x=-4.0)),
    "box outside": bad_detection(Reason.BAD_BOX, "not of a resized one", graph.detection(x=900.0)),
    "tiny box": bad_detection(
        Reason.BAD_BOX, "is too small or too large", graph.detection(size_x=1e-9, size_y=1e-9)
    ),
    "huge box": bad_detection(
        Reason.BAD_BOX, "fix the detector", graph.detection(size_x=1e39, size_y=1e300)
    ),
    "box in fractions": bad_detection(
        Reason.BAD_BOX,
        "multiply by 160 and 120",
        graph.detection(x=0.5, y=0.5, size_x=0.4, size_y=0.3),
    ),
    "200 boxes": Fault(
        lambda bench: bench.answer(*(graph.detection(name=str(i)) for i in range(200))),
        Reason.TOO_MANY,
        "detections.max_count = 16",
        count=184,
    ),
    # time
    "image without stamp": Fault(
        lambda bench: bench.image(0), Reason.IMAGE_STAMP, "let the camera driver stamp"
    ),
    "detections without stamp": Fault(
        lambda bench: bench.detections(0), Reason.DETECTIONS_STAMP, "copy the header of its image"
    ),
    "time set back": Fault(
        time_set_back,
        Reason.TIME_JUMP,
        "bag loop or simulation restart",
        also=(Reason.UNMATCHED,),
    ),
    "detections later than the buffer": Fault(
        late_detections, Reason.UNMATCHED, "raise sync.buffer_size"
    ),
    "detections with a stamp of their own": Fault(
        foreign_stamp, Reason.UNMATCHED, "does not copy the header of its image"
    ),
    "old frames": Fault(
        old_frame, Reason.STALE, "synchronise the clocks", also=(Reason.TIME_JUMP,)
    ),
    # connections
    **{
        f"best-effort {topic}": Fault(
            best_effort(topic, kind),
            Reason.INCOMPATIBLE_QOS,
            "set the reliability of the publisher to reliable",
        )
        for topic, kind in (
            ("image_rect", Image),
            ("camera_info", CameraInfo),
            ("detections", Detection2DArray),
        )
    },
    "messages lost": Fault(burst, Reason.LOST, "raise qos.depth for bursts", count=None),
    # the model
    "slow model": Fault(faster_than_the_model, Reason.BUSY, "the newest is used", count=2),
    "model raises": Fault(
        with_model(raising(ValueError("cuDNN error")), Estimator, "estimate", Reason.ERROR),
        Reason.ERROR,
        "ValueError: cuDNN error",
    ),
    "model returns NaN": Fault(
        with_model(
            lambda logits, *given: NAN * logits(*given),
            FusedHeads,
            "family_logits",
            Reason.BAD_OUTPUT,
        ),
        Reason.BAD_OUTPUT,
        "evaluate it, or export it again",
    ),
    "out of memory for all": Fault(in_parts, Reason.SMALLER_BATCH, "lower detections.max_count"),
    "out of memory for one": Fault(
        with_model(
            raising(torch.OutOfMemoryError("CUDA out of memory")),
            Estimator,
            "estimate",
            Reason.OUT_OF_MEMORY,
        ),
        Reason.OUT_OF_MEMORY,
        "lower search.beam or search.crops",
    ),
    "out of memory on the CPU": Fault(
        with_model(exhaust_memory, Estimator, "estimate", Reason.OUT_OF_MEMORY),
        Reason.OUT_OF_MEMORY,
        "one detection does not fit",
    ),
    "modes cannot be rendered": Fault(
        without_renderings,
        Reason.UNVERIFIED,
        "set search.verify: false if that repeats: RuntimeError: no room for the rays",
        "verified",
    ),
    # the operator
    "disabled during inference": Fault(
        disabled, Reason.DISABLED, "switched off by the service ~/enable", count=2
    ),
    # several cameras, TF, depth
    "depth image missing": bad_depth(Reason.NO_DEPTH, "set depth_image: false"),
    "depth image of another size": bad_depth(
        Reason.BAD_DEPTH,
        "publish depth that is registered",
        width=80,
        height=60,
        step=160,
        data=depth_message(1, 80, 60).data,
    ),
    "depth of unknown encoding": bad_depth(Reason.BAD_DEPTH, "publish one of", encoding="rgb8"),
    "broken transform": Fault(broken_transform, Reason.BAD_TRANSFORM, " of length nan"),
    "filter without TF": Fault(
        filter_without_transforms,
        Reason.UNFILTERED,
        "publish it on /tf or /tf_static",
        mend=lambda bench: bench.set("temporal.enabled", False),
    ),
    "TF falls silent": Fault(
        silent_transforms,
        Reason.NO_TRANSFORM,
        "does it still publish, and from the same clock?",
        "cameras",
        also=(Reason.FEWER_VIEWS,),
    ),
    "one of several cameras dies": Fault(
        one_camera_dies,
        Reason.FEWER_VIEWS,
        "estimated without right",
        "cameras",
        count=None,
        also=(Reason.LATE_VIEW,),
        mend=lambda bench: bench.answer(),  # the first frame of a camera that returns may be late
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(benches, expected, name):
    fault = FAULTS[name]
    right = expected(fault.setup)
    bench = benches(fault.setup)
    for times in (1, 2):
        fault.inject(bench)
        bench.await_drops(fault.reason, times * (fault.count or 1))
    fault.mend(bench)
    assert bench.poses() == right
    found = bench.dropped()
    counted = found.pop(fault.reason)
    assert fault.count is None or counted == 2 * fault.count
    found.pop(Reason.NO_DETECTIONS, None)  # images of faulty detections, as they leave the buffer
    assert found.keys() <= set(fault.also)
    bench.spin_until(lambda: bench.reported(fault.reason) == counted)
    bench.spin_until(lambda: bench.lines(f"({fault.reason.value}, "))
    (line,) = bench.lines(f"({fault.reason.value}, ")
    assert fault.says in line.msg
    assert "\n" not in line.msg
    severity = LoggingSeverity.INFO if fault.reason.routine else LoggingSeverity.WARN
    assert line.level == severity


# ---- what looks like a fault and is none -----------------------------------------------------


def padded_step(bench: Bench) -> None:
    rows = graph.picture().reshape(graph.HEIGHT, -1)
    padded = np.pad(rows, ((0, 0), (0, 13)), constant_values=255)
    image = {"step": padded.shape[1], "data": array("B", padded.tobytes())}
    (message,) = bench.answer(image=image).distributions
    assert message.poses == bench.poses()


def boxes_at_the_limits(bench: Bench) -> None:
    boxes = (
        {"size_x": 1.0, "size_y": 1.0},
        {"size_x": 1e5, "size_y": 1e5},
        {"x": 0.0, "y": 0.0},
        {"x": 159.0, "y": 119.0, "size_x": 300.0},
    )
    messages = bench.answer(*(graph.detection(**box) for box in boxes)).distributions
    assert len(messages) == len(boxes)
    for message in messages:
        check_invariants(message)


def images_out_of_order(bench: Bench) -> None:
    now = bench.now()
    earlier = now - graph.SECOND // 20
    for stamp in (now, earlier):
        bench.image(stamp)
    for stamp in (earlier, now):
        bench.detections(stamp)
        bench.await_answer(stamp)


def detections_before_their_image(bench: Bench) -> None:
    now = bench.now()
    bench.detections(now)
    bench.image(now)
    bench.await_answer(now)


def stamps_in_the_future(bench: Bench) -> None:
    future = bench.now() + 3600 * graph.SECOND
    bench.image(future)
    bench.detections(future)
    bench.await_answer(future)
    bench.answer()
    assert bench.dropped().keys() <= {Reason.TIME_JUMP, Reason.NO_DETECTIONS}
    bench.spin_until(lambda: bench.lines("image stamps went back by"))
    bench.begin()


def publishers_of_both_kinds(bench: Bench) -> None:
    bench.answer()  # of the reliable one
    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    for topic, kind in (("image_rect", Image), ("camera_info", CameraInfo)):
        reliable = bench.publishers[topic]
        bench.publishers[topic] = bench.peer_node.create_publisher(kind, topic, qos)
        bench.spin_until(bench.publishers[topic].get_subscription_count)
        bench.peer_node.destroy_publisher(reliable)
    bench.answer()


def parameters_change_during_inference(bench: Bench) -> None:
    with held_model() as (busy, go_on):
        sent = bench.send()
        bench.spin_until(busy.is_set)
        bench.set("output.max_poses", 10)
        go_on.set()
        (message,) = bench.await_answer(sent).distributions
    assert len(message.poses) == 256  # a frame has the parameters of its start
    assert len(bench.poses()) == 10
    bench.set("output.max_poses", 256)


def reset_during_inference(bench: Bench) -> None:
    with held_model() as (busy, go_on):
        sent = bench.send()
        bench.spin_until(busy.is_set)
        assert bench.call(Trigger, "reset", Trigger.Request()).success
        go_on.set()
        bench.await_answer(sent)


TOLERATED = {
    "padded step": (padded_step, "plain"),
    "boxes at the limits": (boxes_at_the_limits, "plain"),
    "images out of order": (images_out_of_order, "plain"),
    "detections before their image": (detections_before_their_image, "plain"),
    "stamps in the future": (stamps_in_the_future, "plain"),
    "publishers of both kinds": (publishers_of_both_kinds, "best effort"),
    "parameters change during inference": (parameters_change_during_inference, "plain"),
    "reset during inference": (reset_during_inference, "plain"),
}


@pytest.mark.parametrize("name", TOLERATED)
def test_tolerated(benches, expected, name):
    act, setup = TOLERATED[name]
    right = expected(setup)
    bench = benches(setup)
    act(bench)
    assert bench.poses() == right
    assert bench.dropped().keys() <= {Reason.NO_DETECTIONS}


# ---- what needs more than one frame ----------------------------------------------------------


def test_a_camera_that_dies_is_named_and_may_return(benches, expected):
    right = expected("plain")
    bench = benches("plain")
    publisher = bench.publishers.pop("image_rect")
    topic = publisher.topic_name
    bench.peer_node.destroy_publisher(publisher)
    try:
        bench.spin_until(lambda: bench.lines(f"start a publisher of {topic}, or remap"))
        for _ in range(22):
            bench.detections(bench.now())
        bench.await_drops(Reason.UNMATCHED, 2)
        bench.spin_until(lambda: bench.lines("(unmatched, "))
        (line,) = bench.lines("(unmatched, ")
        assert "check that images arrive" in line.msg
        bench.spin_until(lambda: bench.report().level == b"\x01")
    finally:
        bench.publishers["image_rect"] = bench.peer_node.create_publisher(Image, "image_rect", 10)
    bench.spin_until(bench.publishers["image_rect"].get_subscription_count)
    assert bench.poses() == right
    counted = bench.dropped()[Reason.UNMATCHED]
    bench.spin_until(lambda: bench.reported(Reason.UNMATCHED) == counted)


def test_a_detector_that_falls_silent_is_named_and_may_return(benches, expected):
    right = expected("plain")
    bench = benches("plain")
    topic = bench.peer_node.resolve_topic_name("detections")

    def said() -> bool:
        bench.camera_info(bench.now())
        bench.image(bench.now())
        # The second line needs more images than the buffer holds
        return all(map(bench.lines, (f"nothing arrives on {topic}", "(no detections, ")))

    bench.spin_until(said)
    (line,) = bench.lines("(no detections, ")
    assert "the detector is slower than the camera, or silent" in line.msg
    assert bench.poses() == right
    bench.spin_until(lambda: bench.reported(Reason.NO_DETECTIONS) > 0)


def images_alive() -> int:
    gc.collect()
    return sum(type(thing) is Image for thing in gc.get_objects())


def test_a_model_slower_than_60_hz_neither_ages_nor_piles_up(benches, expected):
    right = expected("plain")
    bench = benches("plain")
    estimate, begun, go_on = Estimator.estimate, threading.Event(), threading.Event()

    def slow(*given):
        begun.set()
        go_on.wait()
        return estimate(*given)

    kept, answered = images_alive(), len(bench.answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Estimator, "estimate", slow)
        try:
            first = bench.send()
            bench.spin_until(begun.is_set)
            *_, newest = [bench.send() for _ in range(60)]
            bench.await_drops(Reason.BUSY, 59)
            assert images_alive() - kept < 30  # the buffer for late detections, and what is in work
        finally:
            go_on.set()
        bench.await_answer(newest)
    stamps = [answer.header.stamp for answer in bench.answers[answered:]]
    assert stamps == [graph.image_message(moment).header.stamp for moment in (first, newest)]
    dropped = bench.dropped()
    dropped.pop(Reason.NO_DETECTIONS, None)  # what waited for another test's silent detector
    assert dropped == {Reason.BUSY: 59}
    assert bench.poses() == right


def test_frames_that_differ_in_name_are_said_once_and_used(benches, expected):
    right = expected("plain")
    bench = benches("plain")
    for _ in range(2):
        now = bench.now()
        message = graph.camera_info_message(now)
        message.header.frame_id = "elsewhere\nforged"
        bench.publish("camera_info", message)
        bench.image(now)
        bench.detections(now)
        bench.await_answer(now)
    bench.spin_until(lambda: bench.lines("camera_info is in frame"))
    (line,) = bench.lines("camera_info is in frame")
    assert r"'elsewhere\nforged' but the image in" in line.msg
    assert bench.poses() == right


def assert_said_once_and_used(bench: Bench, right: list, says: str, **frame) -> None:
    for _ in range(2):
        bench.answer(**frame)
    bench.spin_until(lambda: bench.lines(says))
    assert bench.poses() == right
    assert len(bench.lines(says)) == 1


def test_a_black_image_is_said_once_and_used(benches, expected):
    right, black = expected("plain"), array("B", bytes(3 * graph.WIDTH * graph.HEIGHT))
    says = "image_rect: the image is nearly black"
    assert_said_once_and_used(benches("plain"), right, says, image={"data": black})


def test_a_calibration_of_other_pixels_is_said_once_and_used(benches, expected):
    right = expected("plain")
    p = [900.0, 0.0, 479.5, 0.0, 0.0, 900.0, 359.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    says = "which fits an image 6 times as large"
    assert_said_once_and_used(benches("plain"), right, says, info={"p": p})


def test_frames_pass_while_simulated_time_has_not_begun_or_stands_still(start):
    peer = start(use_sim_time=True)
    reports: list = []
    peer.node.create_subscription(DiagnosticArray, "/diagnostics", reports.append, 10)
    clock = peer.node.create_publisher(Clock, "/clock", 10)
    peer.send(GOOD)
    peer.spin_until(lambda: len(peer.distributions) == 1)
    peer.spin_until(clock.get_subscription_count)
    message = Clock()
    message.clock.sec = 100
    clock.publish(message)
    node_clock = peer.estimator.get_clock()
    peer.spin_until(lambda: node_clock.now().nanoseconds == 100 * graph.SECOND)
    for stamp in (100, 100 + 1 / 30, 99.9):
        nanoseconds = round(stamp * graph.SECOND)
        count = len(peer.distributions)
        peer.image.publish(graph.image_message(nanoseconds))
        peer.detections.publish(graph.detections_message(nanoseconds, GOOD))
        peer.spin_until(lambda count=count: len(peer.distributions) == count + 1)
    count = len(reports)
    peer.spin_until(lambda: len(reports) > count)  # reports go on
    assert peer.estimator.drops.counts().keys() <= {Reason.TIME_JUMP, Reason.NO_DETECTIONS}


def test_a_silent_camera_holds_nothing_up_while_simulated_time_stands_still(start):
    peer = start(
        wait_for_topics=False,
        use_sim_time=True,
        cameras=["left", "right"],
        fixed_frame="base",
        camera_poses=["left=0 0 0 0 0 0 1", "right=1 0 0 0 0 0 1"],
    )
    publishers = [
        peer.node.create_publisher(kind, f"left/{name}", 5)
        for name, kind in (("camera_info", CameraInfo), ("image_rect", Image))
    ]
    detections = peer.node.create_publisher(Detection2DArray, "left/detections", 10)
    peer.spin_until(lambda: all(p.get_subscription_count() for p in (*publishers, detections)))
    publishers[0].publish(graph.camera_info_message())
    peer.spin(0.1)
    publishers[1].publish(graph.image_message(graph.SECOND))
    detections.publish(graph.detections_message(graph.SECOND, GOOD))
    peer.spin_until(lambda: peer.distributions)


def test_two_nodes_in_two_namespaces_do_not_mix(start):
    first, second = start(), start()
    for peer, other in ((first, second), (second, first)):
        others = other.estimator.activity.counts()
        count = len(peer.distributions)
        peer.send(GOOD)
        peer.spin_until(lambda peer=peer, count=count: len(peer.distributions) == count + 1)
        other.spin(0.2)
        assert other.estimator.activity.counts() == others


# ---- what makes work impossible --------------------------------------------------------------


def damaged(bundle: str, target: Path) -> str:
    copy = Path(shutil.copytree(bundle, target))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return str(copy)


IMPOSSIBLE = {
    "number without decimal point": (
        {"sync__slop": 1},
        "'sync.slop' is 1 but must be a number with a decimal point",
    ),
    "number that must be whole": (
        {"search__beam": 64.0},
        "'search.beam' is 64.0 but must be a whole number",
    ),
    "number instead of a text": ({"device": 0}, "'device' is 0 but must be a text"),
    "text instead of a list": (
        {"objects": "mug"},
        "'objects' is 'mug' but must be a list of texts",
    ),
    "text instead of a truth value": (
        {"output__mesh": "yes"},
        "'output.mesh' is 'yes' but must be true or false",
    ),
    "out of range": (
        {"sync__max_age": 1000.0},
        "'sync.max_age' is 1000.0 but must be from 0.0 to 60.0",
    ),
    "not a number": ({"sync__slop": NAN}, "'sync.slop' is nan but must be from 0.0 to 1.0"),
    "mistyped choice": ({"qos__reliability": "relaible"}, "write one of reliable, best_effort"),
    "malformed class_map": ({"class_map": ["mug"]}, "write 'class_id=object_name'"),
    "cameras without fixed_frame": ({"cameras": ["left"]}, "'cameras' needs 'fixed_frame'"),
    "renderings without a mesh": (
        {"search__verify": True},
        "has no mesh to render the modes of 'mug' with: copy it, in metres and with its colours",
    ),
    "renderings for several cameras": (
        {"search__verify": True, "cameras": ["left"], "fixed_frame": "world"},
        "parameter 'search.verify' is for one camera: set it to false, or leave 'cameras' empty",
    ),
    "missing bundle": ({"objects": ["/nowhere/mug"]}, "no such folder"),
    "damaged bundle": ({"objects": [damaged]}, "damaged"),
    "bundle of another object": (
        {"class_map": ["cup=duck"]},
        "maps 'cup' to 'duck', which has no model: write one of mug",
    ),
    "absent device": ({"device": "cuda:99"}, "'cuda:99' is not available here; choose from cpu"),
    "more levels than the model has": ({"search__depth": 9}, "the model has 3 levels"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible(name, mug_bundle, tmp_path):
    """The process ends with this text and exit code 1: see test_estimator_process.py."""
    values, text = IMPOSSIBLE[name]
    values = {"objects": [mug_bundle], "device": "cpu"} | values
    if values["objects"] == [damaged]:
        values["objects"] = [damaged(mug_bundle, tmp_path / "mug")]
    try:
        node = EstimatorNode(parameter_overrides=graph.overrides(**values))
    except ParameterError as error:
        assert text in str(error)
        return
    peer = graph.Peer("/impossible", node)
    try:
        peer.spin_until(node.failure.done)
        error = node.failure.result()
    finally:
        peer.close()
    assert isinstance(error, (SpyroposeError, ValueError))
    assert text in str(error)
    assert "\n" not in str(error)


# ---- the document ----------------------------------------------------------------------------


def rows() -> dict[str, str]:
    """Rows of the tables of docs/reliability.md, by the test that they name."""
    found = {}
    for line in DOCUMENT.read_text().splitlines():
        match = re.fullmatch(r"\|.*\| `(\w+\.py::\w+(?:\[[^]]+\])?)` \|", line)
        if match:
            assert match[1] not in found, f"{match[1]} stands twice"
            found[match[1]] = line
    return found


def parametrised() -> dict[str, str]:
    """Tests of the table, with what their log line says."""
    tables = {
        "test_fault": {name: fault.says for name, fault in FAULTS.items()},
        "test_tolerated": dict.fromkeys(TOLERATED, ""),
        "test_impossible": {name: text for name, (_, text) in IMPOSSIBLE.items()},
    }
    return {
        f"test_faults.py::{test}[{name}]": text
        for test, table in tables.items()
        for name, text in table.items()
    }


def test_every_fault_is_in_the_document_with_its_line():
    documented = rows()
    for test, text in parametrised().items():
        assert text in documented[test], test


def test_every_row_of_the_document_names_a_test():
    for name in rows():
        file, _, test = name.partition("::")
        if "[" in test:
            assert name in parametrised(), name
        else:
            source = (Path(__file__).parent / file).read_text()
            assert f"\ndef {test}(" in source, name
