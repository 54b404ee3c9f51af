"""The publishers: names, latching, and nothing made without a subscriber."""

import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

sys.path.append(str(Path(__file__).parents[1]))  # for result_tools.py
from result_tools import MODELS, SHOWN, result_of, two_sided
from spyropose_ros.ros.interfaces import Detection3DArray, PoseDistributionArray, String, TFMessage
from spyropose_ros.ros.messages import conversions, figures, markers
from spyropose_ros.ros.node import outputs
from spyropose_ros.ros.node.outputs import Outputs

_serial = itertools.count()
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def graph_of_two():
    """An estimator's node with its outputs, a peer, and a way to let them work until something."""
    namespace = f"/outputs_{next(_serial)}"
    node, peer = Node("estimator", namespace=namespace), Node("peer", namespace=namespace)
    executor = SingleThreadedExecutor()
    executor.add_node(peer)

    def spin_until(condition):
        for _ in range(400):
            if condition():
                return
            executor.spin_once(timeout_sec=0.05)
        pytest.fail("nothing happened in time")

    yield node, peer, spin_until
    executor.shutdown()
    peer.destroy_node()
    node.destroy_node()


def test_every_topic_has_its_type_and_is_reliable(graph_of_two):
    node, _, _ = graph_of_two
    Outputs(node)
    found = dict(node.get_publisher_names_and_types_by_node("estimator", node.get_namespace()))
    space = node.get_namespace()
    for name, kind in {
        f"{space}/estimator/distributions": "spyropose_ros/msg/PoseDistributionArray",
        f"{space}/estimator/pose": "geometry_msgs/msg/PoseWithCovarianceStamped",
        f"{space}/estimator/model_info": "std_msgs/msg/String",
        f"{space}/detections_3d": "vision_msgs/msg/Detection3DArray",
        "/tf": "tf2_msgs/msg/TFMessage",
    }.items():
        assert found[name] == [kind]
        (profile,) = [
            info.qos_profile
            for info in node.get_publishers_info_by_topic(name)
            if info.node_namespace == space
        ]
        assert profile.reliability == ReliabilityPolicy.RELIABLE
        latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        assert latched == name.endswith("model_info")


def test_model_info_reaches_subscribers_that_come_later(graph_of_two):
    node, peer, spin_until = graph_of_two
    models = SimpleNamespace(objects={}, estimators={}, classes={})
    Outputs(node).publish_model_info(models, SHOWN, None)
    received = []
    peer.create_subscription(
        String, f"{node.get_namespace()}/estimator/model_info", received.append, LATCHED
    )
    spin_until(lambda: received)
    assert json.loads(received[0].data)["objects"] == []


def test_subscribers_get_what_they_ask_for_and_nothing_else_is_made(graph_of_two, monkeypatch):
    node, peer, spin_until = graph_of_two
    publishers = Outputs(node)
    for module, maker in (
        (figures, "overlay"),
        (figures, "rotation_maps"),
        (markers, "marker_array"),
        (conversions, "resampled_poses"),
    ):
        monkeypatch.setattr(module, maker, lambda *_, maker=maker: pytest.fail(f"{maker} ran"))
    monkeypatch.setattr(outputs, "messages", made := Recorder(outputs.messages))
    received = {}
    for kind, topic in (
        (PoseDistributionArray, "estimator/distributions"),
        (Detection3DArray, "detections_3d"),
        (TFMessage, "/tf"),
    ):
        peer.create_subscription(kind, topic, received.setdefault(kind, []).append, 10)
    spin_until(lambda: all(map(publishers._wanted, ("~/distributions", "detections_3d", "/tf"))))
    publishers.publish(result_of(two_sided(0)), MODELS, SHOWN)
    assert made.topics == ["~/distributions", "detections_3d", "/tf"]
    spin_until(lambda: all(received.values()))
    assert received[Detection3DArray][0].detections[0].results[0].hypothesis.class_id == "cup"
    assert received[TFMessage][0].transforms[0].child_frame_id == "mug"


def test_a_new_epoch_lets_tf_start_at_an_earlier_time(graph_of_two):
    node, peer, spin_until = graph_of_two
    publishers = Outputs(node)
    received = []
    peer.create_subscription(TFMessage, "/tf", received.append, 10)
    spin_until(lambda: publishers._wanted("/tf"))
    for seconds in (5, 4):
        publishers.publish(result_of(two_sided(0), seconds=seconds), MODELS, SHOWN)
    publishers.publish(result_of(two_sided(0), seconds=3, epoch=1), MODELS, SHOWN)
    spin_until(lambda: len(received) == 2)
    assert [message.transforms[0].header.stamp.sec for message in received] == [5, 3]


class Recorder:
    """Calls a generator function and notes the topics it yields."""

    def __init__(self, function):
        self._function = function
        self.topics = []

    def __call__(self, *arguments):
        for topic, message in self._function(*arguments):
            self.topics.append(topic)
            yield topic, message
