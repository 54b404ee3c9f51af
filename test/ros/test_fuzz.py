"""Arbitrary messages thrown at the node's subscriptions: nothing escapes, and work goes on."""

import io
import itertools
import re
import sys
import threading
import time
from array import array

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose

import graph
from spyropose_ros.ros.messages.result_messages import TOPICS
from spyropose_ros.ros.node.lifecycle_node import EstimatorNode
from spyropose_ros.ros.pipeline.drops import MAX_TEXT, Reason

HOSTILE = "SENTINEL"  # in every text that must reach neither a file nor a process

# What one message may be made of. Lone surrogates cannot arrive: rclpy decodes them away.
texts = st.one_of(
    st.sampled_from(
        [
            "mug",
            "",
            graph.FRAME,
            "world",
            f"../../{HOSTILE}",
            f"/tmp/{HOSTILE}",
            f"package://{HOSTILE}",
            f"file:///{HOSTILE}",
            f"$(touch {HOSTILE}); `touch {HOSTILE}`",
            "%s%n%d{}{0.__class__}{missing}",
            "a\nb\r[FATAL] [estimator]: forged",
            "\x1b[2J\x00\x07\u2028\u202e",
            "x" * 100_000,
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
numbers = st.one_of(
    st.floats(),
    st.floats(-200, 400),
    st.sampled_from([0.0, float("nan"), float("inf"), 1e300, 1e39, 1e30, 1e-30, 5e-324]),
)
unsigned = st.one_of(st.integers(0, 300), st.sampled_from([2**31, 2**32 - 1]))


def changed(message, values: dict):
    """Sets fields by their paths, 'header__stamp__sec' for example."""
    for path, value in values.items():
        *parents, name = path.split("__")
        owner = message
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, value)
    return message


def some(fields: dict):
    """One or two of the fields, or none, with new values."""
    names = st.lists(st.sampled_from(sorted(fields)), max_size=2, unique=True)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries({name: fields[name] for name in chosen})
    )


HEADER = {
    "header__frame_id": texts,
    "header__stamp__sec": st.integers(-(2**31), 2**31 - 1),
    "header__stamp__nanosec": st.integers(0, 2**32 - 1),
}
headers = st.one_of(st.just({}), st.just({}), st.just({}), some(HEADER))


def variants(make, **fields):
    """Valid messages with some fields changed: functions of the stamp."""
    return st.builds(
        lambda header, values: lambda stamp: changed(make(stamp), header | values),
        headers,
        some(fields) if fields else st.just({}),
    )


CALIBRATION = graph.camera_info_message()


def nearly(row: list[float]):
    """The row with an entry changed, or all of them."""
    one = st.builds(
        lambda index, number: row[:index] + [number] + row[index + 1 :],
        st.integers(0, len(row) - 1),
        numbers,
    )
    return st.one_of(one, st.lists(numbers, min_size=len(row), max_size=len(row)))


raw = st.binary(max_size=64).map(lambda data: array("B", data))
encodings = st.one_of(
    texts,
    st.sampled_from(["mono8", "bayer_rggb8", "yuv422", "rgba16", "16UC1", "32FC1", "uyvy"]),
)
image_fields = {
    "height": unsigned,
    "width": unsigned,
    "encoding": encodings,
    "is_bigendian": st.integers(0, 255),
    "step": unsigned,
    "data": raw,
}


def files(kind: str):
    """Image files with damage."""
    file = io.BytesIO()
    PillowImage.fromarray(graph.picture()).save(file, kind)
    whole = file.getvalue()

    def damage(start, end, place, value):
        data = bytearray(whole[start : len(whole) - end])
        if data:
            data[place % len(data)] = value
        return array("B", bytes(data))

    end = st.one_of(st.just(0), st.integers(0, len(whole)))
    start = st.one_of(st.just(0), st.integers(0, 30))
    return st.builds(damage, start, end, st.integers(0, 10**6), st.integers(0, 255))


def compressed(stamp: int) -> CompressedImage:
    message = graph.stamp(CompressedImage(), stamp)
    file = io.BytesIO()
    PillowImage.fromarray(graph.picture()).save(file, "PNG")
    message.format, message.data = "png", array("B", file.getvalue())
    return message


def lens(stamp: int) -> CameraInfo:
    message = graph.camera_info_message(stamp)
    message.distortion_model, message.d = "plumb_bob", [0.1, 0.01, 0.0, 0.0, 0.0]
    return message


def depth(stamp: int) -> Image:
    message = graph.image_message(stamp)
    message.encoding, message.step = "16UC1", 2 * graph.WIDTH
    message.data = array("B", np.full((graph.HEIGHT, graph.WIDTH), 300, np.uint16).tobytes())
    return message


@st.composite
def one_detection(draw):
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = draw(st.one_of(*3 * [st.just("mug")], texts))
    result.hypothesis.score = draw(st.one_of(st.just(0.9), numbers))
    box = st.fixed_dictionaries(
        {},
        optional={
            "id": texts,
            "bbox__center__position__x": numbers,
            "bbox__center__position__y": numbers,
            "bbox__center__theta": numbers,
            "bbox__size_x": numbers,
            "bbox__size_y": numbers,
            "results": st.sampled_from([[], [result], [result, result]]),
        },
    )
    message: Detection2D = graph.detection()
    message.results = [result]
    return changed(message, draw(box))


@st.composite
def transform(draw):
    message = TransformStamped(child_frame_id=draw(st.one_of(st.just(graph.FRAME), texts)))
    message.header.frame_id = draw(st.one_of(st.just("world"), texts))
    message.header.stamp.sec = draw(st.integers(-(2**31), 2**31 - 1))
    move = message.transform
    move.translation.x, move.rotation.z = draw(numbers), draw(st.one_of(st.just(0.0), numbers))
    move.rotation.w = draw(st.one_of(st.just(1.0), numbers))
    return message


detections = st.lists(one_detection(), max_size=5)
regions = st.builds(
    RegionOfInterest, x_offset=unsigned, y_offset=unsigned, width=unsigned, height=unsigned
)
KINDS = {
    "image_rect": variants(graph.image_message, **image_fields),
    "image_rect/compressed": variants(
        compressed,
        format=texts,
        data=st.one_of(raw, files("PNG"), files("JPEG")),
    ),
    "depth": variants(depth, **image_fields),
    "camera_info": variants(
        lens,
        width=unsigned,
        height=unsigned,
        k=nearly(list(CALIBRATION.k)),
        p=nearly(list(CALIBRATION.p)),
        r=nearly(np.eye(3).ravel().tolist()),
        d=st.lists(numbers, max_size=14).map(lambda row: array("d", row)),
        distortion_model=st.one_of(texts, st.sampled_from(["plumb_bob", "equidistant"])),
        binning_x=unsigned,
        binning_y=unsigned,
        roi=regions,
    ),
    "detections": detections.flatmap(
        lambda row: variants(lambda stamp: graph.detections_message(stamp, *row))
    ),
    "/tf": st.lists(transform(), max_size=3).map(
        lambda row: lambda stamp: TFMessage(transforms=row)
    ),
}
KINDS["/tf_static"] = KINDS["/tf"]
SETUPS = {
    "raw": {
        "depth_image": True,
        "rectified": False,
        "fixed_frame": "world",
        "temporal__enabled": True,
        "publish_tf": True,
        "class_map": ["cup=mug"],
    },
    "compressed": {"image_transport": "compressed"},
    "cameras": {
        "cameras": ["left", "right", "top"],
        "camera_poses": ["left=0 0 0 0 0 0 1", "top=0 0 -0.1 0 0 0 1"],
        "fixed_frame": "world",
        "views__wait": 0.02,
    },
}


class Target:
    """A node without an executor: the test calls its subscriptions as the executor would."""

    def __init__(self, name: str, bundle: str) -> None:
        values = {"objects": [bundle], "device": "cpu", "search__beam": 8, "sync__max_age": 0.0}
        self.cameras = SETUPS[name].get("cameras", [])
        self.node = EstimatorNode(
            namespace=f"/fuzz_{name}",
            parameter_overrides=graph.overrides(**values | SETUPS[name]),
        )
        self.listener = Node("listener", namespace=f"/fuzz_{name}/estimator")
        for topic, kind in TOPICS.items():  # so that every output is made
            relative = topic.replace("~/", "").replace("detections_3d", "../detections_3d")
            full = self.node.resolve_topic_name(topic) if "~" not in topic else relative
            self.listener.create_subscription(kind, full, lambda message: None, 1)
        self.callbacks = {
            subscription.topic_name.removeprefix(f"/fuzz_{name}/"): subscription.callback
            for subscription in self.node.subscriptions
        }
        self.now = itertools.count(1_700_000_000)
        self.answered: set[int] = set()
        self._wait(lambda: self.node.ready)
        publish = self.node._outputs.publish

        def note(result, *more):
            publish(result, *more)
            stamp = result.header.stamp
            self.answered.add(stamp.sec * graph.SECOND + stamp.nanosec)

        self.node._outputs.publish = note
        wanted = self.node._outputs._wanted
        self._wait(lambda: all(map(wanted, TOPICS)))

    def deliver(self, topic: str, message) -> None:
        callback = self.callbacks[topic]
        if topic.startswith("/tf"):
            callback(message)
        else:
            callback(message, {})

    def frame(self, detection: Detection2D) -> list[tuple]:
        """A valid frame of one camera: topics, with functions of the stamp."""
        makers = {
            "camera_info": lens,
            "depth": depth,
            "image_rect": graph.image_message,
            "compressed": compressed,
            "detections": lambda stamp: graph.detections_message(stamp, detection),
        }
        topics = [t for t in self.callbacks if not t.startswith(("/", "right/", "top/"))]
        topics.sort(key=lambda topic: "detections" in topic)
        return [(topic, makers[topic.rpartition("/")[2]]) for topic in topics]

    def empty_picture(self) -> list[tuple]:
        """The same without the pixels of its image."""
        return [
            (topic, lambda stamp, make=make: changed(make(stamp), {"data": array("B")}))
            if "image_rect" in topic
            else (topic, make)
            for topic, make in self.frame(graph.detection())
        ]

    def check(self) -> None:
        """A valid frame is answered, whatever came before."""
        stamp = next(self.now) * graph.SECOND
        for topic, make in self.frame(graph.detection()):
            self.deliver(topic, make(stamp))
        self._wait(lambda: stamp in self.answered)

    def await_idle(self) -> None:
        """Waits until all frames are processed or dropped."""
        reasons = {r for r in Reason if r.drops_image} - {Reason.IMAGE_STAMP, Reason.NO_DETECTIONS}

        def idle() -> bool:
            counts, drops = self.node.activity.counts(), self.node.drops.counts()
            return counts.matched == counts.processed + sum(drops.get(r, 0) for r in reasons)

        self._wait(idle)

    def _wait(self, condition) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            self.node._session._flush()
            assert not self.node.failure.done(), self.node.failure.result()
            assert time.monotonic() < deadline, "no answer"
            time.sleep(0.001)

    def close(self) -> None:
        self.node.stop()
        self.node.destroy_node()
        self.listener.destroy_node()


@pytest.fixture(scope="module")
def accesses():
    """Files and processes that were opened with a text from a message."""
    found: list = []

    def note(event: str, arguments: tuple) -> None:
        if event.startswith(("open", "os.", "subprocess.", "import")) and HOSTILE in str(arguments):
            found.append((event, arguments))

    sys.addaudithook(note)  # for the rest of the process: there is no way back
    return found


@pytest.fixture(scope="module", params=SETUPS)
def target(request, mug_bundle):
    made = Target(request.param, mug_bundle)
    yield made
    made.close()


@pytest.fixture(scope="module")
def logged():
    """Everything that is logged, unthrottled."""
    lines: list[str] = []
    lock = threading.Lock()

    def log(self, message, *more, **options):
        with lock:
            lines.append(message)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RcutilsLogger, "log", log)
        yield lines


def test_arbitrary_messages_do_no_harm(target, logged, accesses):
    leaps = itertools.count(step=3600)
    target.node.drops._clock = lambda: float(next(leaps))
    topics = {
        name: kind
        for name in target.callbacks
        if (kind := re.sub("^(left|right|top)/", "", name)) in KINDS
    }
    each = [
        st.lists(st.tuples(st.just(name), KINDS[kind]), max_size=2) for name, kind in topics.items()
    ]
    several = st.tuples(*each).map(lambda rows: sum(rows, [])).flatmap(st.permutations)
    target.check()

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(several)
    # Drawn ones may not get so far
    @example(target.frame(graph.detection("person")))
    @example(target.empty_picture())
    def throw(messages):
        logged.clear()
        stamp = next(target.now) * graph.SECOND
        for name, make in messages:
            target.deliver(name, make(stamp))
            if not target.cameras:  # or no two cameras would ever meet
                target.await_idle()
        target.await_idle()
        target.check()
        for line in logged:
            assert line.isprintable(), line
            assert len(line) < MAX_TEXT + 200
        assert accesses == []

    throw()
    drops = target.node.drops.counts()
    # It got that far; with several cameras most frame sets end without their detections
    assert drops.get(Reason.BAD_IMAGE)
    assert drops.get(Reason.UNKNOWN_CLASS) or target.cameras


def test_the_audit_can_fail(accesses, tmp_path):
    (tmp_path / HOSTILE).write_text("")
    assert accesses.pop()[0] == "open"
    accesses.clear()
