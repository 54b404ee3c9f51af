"""Publishers that offer less than is asked, or more, are received all the same."""

import threading
import time

import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray

import graph
from spyropose_ros.ros.node.adaptive_subscription import AdaptiveSubscription, attainable
from spyropose_ros.ros.node.health import Activity
from spyropose_ros.ros.node.inputs import Inputs
from spyropose_ros.ros.pipeline.assembler import Assembler
from spyropose_ros.ros.pipeline.drops import DropCounter, Reason
from spyropose_ros.ros.pipeline.parameters import Parameters, QosParameters
from spyropose_ros.ros.pipeline.tf_buffer import TransformError

RELIABLE = QoSProfile(depth=5)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LATCHED_BEST_EFFORT = QoSProfile(
    depth=1,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    reliability=ReliabilityPolicy.BEST_EFFORT,
)


@pytest.mark.parametrize("latched", [True, False])
@pytest.mark.parametrize(
    ("offers", "reliability", "kept"),
    [
        ([], "RELIABLE", False),
        ([RELIABLE], "RELIABLE", False),
        ([BEST_EFFORT], "BEST_EFFORT", False),
        ([RELIABLE, BEST_EFFORT], "BEST_EFFORT", False),
        ([LATCHED], "RELIABLE", True),
        ([LATCHED, LATCHED], "RELIABLE", True),
        ([LATCHED, RELIABLE], "RELIABLE", False),
        ([LATCHED, BEST_EFFORT], "BEST_EFFORT", False),
        ([LATCHED_BEST_EFFORT], "BEST_EFFORT", False),
    ],
)
def test_what_is_asked_can_be_given_by_all(offers, reliability, kept, latched):
    asked = attainable(RELIABLE, offers, latched)
    assert asked.reliability == ReliabilityPolicy[reliability]
    assert (asked.durability == DurabilityPolicy.TRANSIENT_LOCAL) == (kept and latched)
    assert asked.depth == 5
    modest = attainable(BEST_EFFORT, offers, latched).reliability
    assert (modest == ReliabilityPolicy.RELIABLE) == (kept and latched)


class Graph:
    """Two nodes, one of which listens."""

    def __init__(self) -> None:
        self.listener = Node("listener", namespace="/quality")
        self.talker = Node("talker", namespace="/quality")
        self._executor = SingleThreadedExecutor()
        for node in (self.listener, self.talker):
            self._executor.add_node(node)
        self.received: list = []
        self.log: list[str] = []
        self.drops = DropCounter(self.log.append, self.log.append)

    def listen(self, **parameters) -> Inputs:
        given = Parameters(**parameters)
        entries = Assembler(given, self.listener.resolve_topic_name, print, print).inputs
        return Inputs(
            self.listener,
            entries,
            given,
            Activity(),
            self.drops.add,
            lambda entry, message: self.received.append((entry.name, message)),
        )

    def spin_until(self, condition, timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "nothing happened in time"
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self._executor.shutdown()
        self.listener.destroy_node()
        self.talker.destroy_node()


@pytest.fixture
def two():
    opened = Graph()
    yield opened
    opened.close()


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_a_calibration_that_was_published_once_before_is_received(two, reliability):
    publisher = two.talker.create_publisher(CameraInfo, "camera_info", LATCHED)
    publisher.publish(graph.camera_info_message(7))
    two.listen(qos=QosParameters(reliability=reliability))
    two.spin_until(lambda: two.received)
    ((name, message),) = two.received
    assert (name, message.header.stamp.nanosec) == ("camera_info", 7)
    assert two.drops.counts() == {}
    # an ordinary publisher beside it is received, too
    other = two.talker.create_publisher(CameraInfo, "camera_info", 10)
    two.spin_until(other.get_subscription_count)
    other.publish(graph.camera_info_message(8))
    two.spin_until(lambda: 8 in stamps(two))


@pytest.mark.parametrize("qos", [RELIABLE, BEST_EFFORT])
def test_a_calibration_published_once_beside_an_ordinary_publisher_is_received(two, qos):
    two.talker.create_publisher(CameraInfo, "camera_info", LATCHED).publish(
        graph.camera_info_message(7)
    )
    other = two.talker.create_publisher(CameraInfo, "camera_info", qos)
    two.listen()
    two.spin_until(lambda: 7 in stamps(two) and other.get_subscription_count())
    other.publish(graph.camera_info_message(8))
    two.spin_until(lambda: 8 in stamps(two))
    assert two.drops.counts().get(Reason.LOST, 0) == 0


def stamps(two) -> list[int]:
    return [message.header.stamp.nanosec for _, message in two.received]


def test_what_is_missed_while_subscribing_again_is_not_lost_in_transit(two):
    two.listen(qos=QosParameters(depth=5000))
    publisher = two.talker.create_publisher(Image, "image_rect", 5000)
    done = threading.Event()

    def publish() -> None:
        while not done.wait(0.0005):
            publisher.publish(Image())

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        two.spin_until(lambda: len(two.received) > 10)
        two.talker.create_publisher(Image, "image_rect", BEST_EFFORT)
        two.spin_until(lambda: two.drops.counts().get(Reason.INCOMPATIBLE_QOS))
        before = len(two.received)
        two.spin_until(lambda: len(two.received) > before + 50)
    finally:
        done.set()
        thread.join()
    assert two.drops.counts().get(Reason.LOST, 0) == 0


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_depth_images_and_overridden_topics_adapt_as_well(two, reliability):
    two.listen(depth_image=True, qos=QosParameters(reliability=reliability))
    publisher = two.talker.create_publisher(Image, "depth", BEST_EFFORT)
    two.spin_until(publisher.get_subscription_count)
    publisher.publish(graph.image_message(5))
    two.spin_until(lambda: two.received)
    expected = 1 if reliability == "reliable" else 0
    assert two.drops.counts().get(Reason.INCOMPATIBLE_QOS, 0) == expected


@pytest.mark.parametrize(
    ("topic", "kind", "qos", "parameters", "remedies"),
    [
        (
            "image_rect",
            Image,
            10,
            {},
            ["use image_transport: compressed, or give Fast DDS room", ", or raise qos.depth"],
        ),
        (
            "image_rect",
            Image,
            10,
            {"reliability": "best_effort"},
            ["set qos.reliability: reliable"],
        ),
        ("image_rect", Image, BEST_EFFORT, {}, ["reliability of its publisher to reliable"]),
        ("image_rect/compressed", CompressedImage, 10, {}, [": raise qos.depth for bursts"]),
        (
            "detections",
            Detection2DArray,
            10,
            {},
            ["qos_overrides./quality/detections.subscription.depth"],
        ),
    ],
)
def test_the_remedy_for_losses_is_one_that_helps(two, topic, kind, qos, parameters, remedies):
    transport = "compressed" if "compressed" in topic else "raw"
    two.listen(qos=QosParameters(depth=2, **parameters), image_transport=transport)
    publisher = two.talker.create_publisher(kind, topic, qos)
    two.spin_until(publisher.get_subscription_count)
    publisher.publish(kind())
    two.spin_until(lambda: two.received)
    for _ in range(30):
        publisher.publish(kind())
    two.spin_until(lambda: two.drops.counts().get(Reason.LOST))
    (line,) = (line for line in two.log if "lost in transit" in line)
    for remedy in remedies:
        assert remedy in line
    reliable = qos == 10 and "reliability" not in parameters
    assert ("reliable" in line) != reliable
    assert ("image_transport" in line) == (topic == "image_rect")


def test_a_subscription_that_is_closed_stays_closed(two):
    received: list = []
    subscription = AdaptiveSubscription(
        two.listener, Image, "image_rect", received.append, RELIABLE, say=print
    )
    subscription.close()
    publisher = two.talker.create_publisher(Image, "image_rect", BEST_EFFORT)
    end = time.monotonic() + 1.5
    two.spin_until(lambda: time.monotonic() > end)
    assert publisher.get_subscription_count() == 0


# ---- TF --------------------------------------------------------------------------------------


def transform(child: str) -> TFMessage:
    message = graph.stamp(TransformStamped(child_frame_id=child), graph.SECOND)
    message.header.frame_id = "world"
    message.transform.rotation.w = 1.0
    return TFMessage(transforms=[message])


def latched(qos: QoSProfile) -> bool:
    return qos.durability == DurabilityPolicy.TRANSIENT_LOCAL


@pytest.mark.parametrize(
    ("topic", "qos"),
    [
        ("/tf", BEST_EFFORT),
        ("/tf_static", RELIABLE),
        ("/tf_static", BEST_EFFORT),
        ("/tf_static", LATCHED),
    ],
)
def test_transforms_of_every_publisher_are_received(start, topic, qos):
    early = Node("early")
    publisher = early.create_publisher(TFMessage, topic, qos)
    publisher.publish(transform("before"))
    peer = start(fixed_frame="world")
    buffer = peer.estimator._session._transforms

    def known(child: str) -> bool:
        try:
            return buffer.lookup("world", child, graph.SECOND) is not None
        except TransformError:
            return False

    peer.spin_until(lambda: publisher.get_subscription_count() >= (2 if latched(qos) else 1))
    if latched(qos):  # it keeps one message: the next would take this one's place
        peer.spin_until(lambda: known("before"))
    publisher.publish(transform("after"))
    peer.spin_until(lambda: known("after"))
    assert known("before") == latched(qos)
    told = peer.estimator.drops.counts().get(Reason.INCOMPATIBLE_QOS, 0)
    assert (told == 0) == latched(qos)
    if topic == "/tf_static" and not latched(qos):
        assert "as static_transform_publisher does" in peer.estimator.drops.last_problem
    early.destroy_node()
