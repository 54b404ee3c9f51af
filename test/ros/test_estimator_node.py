"""The node on a real graph, in this process: what goes in, what comes out, what is refused."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterType
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

import graph
from spyropose_ros.core import plots
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.presence import with_score
from spyropose_ros.ros.interfaces import QueryPose
from spyropose_ros.ros.messages.conversions import pose_arrays
from spyropose_ros.ros.messages.invariants import check_invariants
from spyropose_ros.ros.pipeline import parameters, rotations
from spyropose_ros.ros.pipeline.drops import Reason
from spyropose_ros.ros.pipeline.images import rgb_image
from spyropose_ros.ros.pipeline.parameters import Parameters
from spyropose_ros.scenes.verification import Verification


def stamp_of(message) -> int:
    return message.header.stamp.sec * graph.SECOND + message.header.stamp.nanosec


def receive(peer, *detections, **frame):
    """Sends a frame and returns the array that comes for it."""
    sent = peer.send(*detections, **frame)
    peer.spin_until(lambda: any(stamp_of(array) == sent for array in peer.distributions))
    return peer.distributions[-1]


# ---- outputs ---------------------------------------------------------------------------------


def test_every_detection_gets_a_valid_distribution(start):
    peer = start()
    array = receive(
        peer, graph.detection(name="left", x=50.0), graph.detection(name="right", x=110.0)
    )
    assert [d.detection_id for d in array.distributions] == ["left", "right"]
    for message in array.distributions:
        check_invariants(message)
        assert len(message.poses) == 256
        assert message.header == array.header
        assert (message.class_id, message.model_id) == ("mug", "mug")
    assert array.header.frame_id == graph.FRAME
    peer.spin_until(lambda: peer.poses)
    assert len(peer.poses[0].poses) == 512
    assert peer.poses[0].header == array.header


def test_node_output_is_the_offline_output(start, mug_bundle):
    peer = start()
    boxes = np.array([[20.0, 35, 80, 85], [80.0, 35, 140, 85]])
    array = receive(peer, graph.detection(x=50.0), graph.detection(x=110.0))
    estimator = Estimator.from_pretrained(mug_bundle, "cpu", SearchSettings(beam=32))
    K = np.reshape(graph.camera_info_message().p, (3, 4))[:, :3]
    offline = estimator.estimate(graph.picture(), K, boxes)
    assert len(array.distributions) == len(offline) == 2
    for message, distribution in zip(array.distributions, offline, strict=True):
        top = distribution.top(256)
        positions, quaternions = pose_arrays(message.poses)
        np.testing.assert_array_equal(positions, top.translations.double())
        np.testing.assert_array_equal(quaternions, rotations.quaternions(top.rotations.numpy()))
        np.testing.assert_allclose(message.weights, top.probabilities, rtol=1e-6)
        known = with_score(distribution.presence, message.detection_score)
        assert 0 < known < 1 and message.presence == pytest.approx(known)


def test_verified_modes_are_those_of_python_in_messages_and_answers(start, meshed_bundle):
    peer = start(objects=[meshed_bundle], search__verify=True)
    array = receive(peer, graph.detection(x=50.0), graph.detection(x=110.0))
    estimator = Estimator.from_pretrained(meshed_bundle, "cpu", SearchSettings(beam=32))
    K = np.reshape(graph.camera_info_message().p, (3, 4))[:, :3]
    boxes = np.array([[20.0, 35, 80, 85], [80.0, 35, 140, 85]])
    verification = Verification.of_bundle(estimator)
    found = estimator.estimate(graph.picture(), K, boxes)
    for message, box, before in zip(array.distributions, boxes, found, strict=True):
        after = verification(graph.picture(), K, box, before)
        masses = [mode.mass for mode in after.modes()]
        assert len(masses) > 1 and masses != [mode.mass for mode in before.modes()]
        check_invariants(message)
        assert [mode.mass for mode in message.modes] == pytest.approx(masses)
        np.testing.assert_allclose(message.weights, after.top(256).probabilities, rtol=1e-6)
    assert peer.estimator.drops.counts() == {}
    last = message.modes[0]
    request = QueryPose.Request(object="7", poses=[last.pose], angle=0.35, distance=0.03)
    R, t = after.mode()
    wanted = after.probability_within(R, t, 0.35, 0.03)
    answer = graph.call(peer.node, peer.spin_until, QueryPose, "query_pose", request)
    assert answer.probabilities == pytest.approx([float(wanted)], abs=1e-3)


def test_an_image_without_usable_detections_gives_an_empty_array(start):
    peer = start()
    pictures, maps = peer.listen(Image, "overlay"), peer.listen(Image, "rotations")
    shapes = peer.listen(MarkerArray, "markers")
    peer.spin(0.5)
    assert len(receive(peer).distributions) == 0
    peer.spin_until(lambda: pictures and shapes and peer.poses)
    np.testing.assert_array_equal(rgb_image(pictures[0]), graph.picture())
    assert [marker.action for marker in shapes[0].markers] == [Marker.DELETEALL]
    assert len(peer.poses[0].poses) == 0
    assert maps == []


def test_pictures_and_markers_have_the_images_header(start):
    peer = start()
    pictures, maps = peer.listen(Image, "overlay"), peer.listen(Image, "rotations")
    shapes = peer.listen(MarkerArray, "markers")
    peer.spin(0.5)
    header = receive(peer, graph.detection(x=50.0), graph.detection(x=110.0)).header
    peer.spin_until(lambda: pictures and maps and shapes)
    assert pictures[0].header == maps[0].header == header
    assert all(marker.header == header for marker in shapes[0].markers)
    assert rgb_image(pictures[0]).shape == (graph.HEIGHT, graph.WIDTH, 3)
    assert (rgb_image(pictures[0]) != graph.picture()).any()
    assert maps[0].height == 2 * 320


def test_pictures_are_not_drawn_without_a_subscriber(start, monkeypatch):
    drawn = []
    for name in ("overlay", "rotation_plot"):
        original = getattr(plots, name)
        monkeypatch.setattr(
            plots, name, lambda *a, _f=original, **k: (drawn.append(1), _f(*a, **k))[1]
        )
    peer = start()
    receive(peer, graph.detection())
    receive(peer, graph.detection())
    assert drawn == []
    peer.listen(Image, "overlay")
    peer.spin(0.5)
    receive(peer, graph.detection())
    peer.spin_until(lambda: drawn)


def test_all_detections_of_a_model_are_one_pass(start, mug_bundle, duck_bundle, monkeypatch):
    calls = []
    estimate = Estimator.estimate
    monkeypatch.setattr(
        Estimator,
        "estimate",
        lambda self, image, K, boxes, *more: (
            calls.append((self.bundle.object.name, len(boxes))),
            estimate(self, image, K, boxes, *more),
        )[1],
    )
    peer = start(objects=[mug_bundle, duck_bundle], class_map=["41=mug"])
    calls.clear()  # the warm-up
    classes = ["41", "duck", "mug", "person", "duck"]
    array = receive(peer, *(graph.detection(class_id, name=class_id) for class_id in classes))
    assert calls == [("mug", 2), ("duck", 2)]
    assert [d.class_id for d in array.distributions] == ["41", "duck", "mug", "duck"]
    assert [d.model_id for d in array.distributions] == ["mug", "duck", "mug", "duck"]
    assert peer.estimator.drops.counts() == {Reason.UNKNOWN_CLASS: 1}


# ---- parameters ------------------------------------------------------------------------------


def test_declared_parameters_are_those_of_the_dataclass(start):
    node = start().estimator
    defaults = parameters.flatten(Parameters())
    for name, description in parameters.descriptions():
        declared = node.describe_parameter(name)
        assert declared.description == description.text
        kind = {
            bool: ParameterType.PARAMETER_BOOL,
            int: ParameterType.PARAMETER_INTEGER,
            float: ParameterType.PARAMETER_DOUBLE,
            str: ParameterType.PARAMETER_STRING,
            tuple: ParameterType.PARAMETER_STRING_ARRAY,
        }[type(defaults[name])]
        assert declared.type == kind
        ranges = [*declared.integer_range, *declared.floating_point_range]
        limits = [(limit.from_value, limit.to_value) for limit in ranges]
        expected = [] if description.low is None else [(description.low, description.high)]
        assert limits == expected


def test_live_parameters_apply_to_the_next_frame(start):
    peer = start()
    node = peer.estimator
    (result,) = node.set_parameters([Parameter("output.max_poses", value=10)])
    assert result.successful
    (message,) = receive(peer, graph.detection()).distributions
    assert len(message.poses) == 10
    check_invariants(message)
    assert node.set_parameters([Parameter("detections.min_score", value=0.95)])[0].successful
    assert len(receive(peer, graph.detection(score=0.9)).distributions) == 0
    assert node.drops.counts() == {Reason.LOW_SCORE: 1}
    assert node.set_parameters([Parameter("detections.min_score", value=0.0)])[0].successful
    assert node.set_parameters([Parameter("detections.max_count", value=1)])[0].successful
    array = receive(peer, graph.detection(score=0.3), graph.detection(score=0.6, name="best"))
    assert [d.detection_id for d in array.distributions] == ["best"]


def test_slop_applies_live(start):
    peer = start()

    def send_apart():
        peer.camera_info.publish(graph.camera_info_message())
        now = peer.now()
        peer.image.publish(graph.image_message(now))
        peer.spin(0.1)
        peer.detections.publish(
            graph.detections_message(now + graph.SECOND // 10, graph.detection())
        )
        peer.spin(0.1)
        peer.image.publish(graph.image_message(now + graph.SECOND // 2))

    send_apart()
    peer.spin_until(lambda: peer.estimator.drops.counts() == {Reason.UNMATCHED: 1})
    assert peer.estimator.set_parameters([Parameter("sync.slop", value=0.2)])[0].successful
    send_apart()
    peer.spin_until(lambda: peer.distributions)


@pytest.fixture(scope="module")
def bench(mug_bundle):
    """One node for all changes that it refuses."""
    from spyropose_ros.ros.node.lifecycle_node import EstimatorNode

    values = {"objects": [mug_bundle], "device": "cpu"}
    node = EstimatorNode(namespace="/refusals", parameter_overrides=graph.overrides(**values))
    peer = graph.Peer("/refusals", node)
    peer.connect()
    peer.spin_until(lambda: node.ready)
    yield peer
    peer.close()


@pytest.mark.parametrize(
    "name, value",
    [
        ("sync.slop", -0.1),
        ("sync.slop", 1),
        ("output.max_poses", 0),
        ("detections.min_score", 1.5),
        ("device", "cuda"),
        ("objects", ["elsewhere"]),
    ],
)
def test_changes_that_are_not_allowed_are_refused(bench, name, value):
    before = bench.estimator.get_parameter(name).value
    (result,) = bench.estimator.set_parameters([Parameter(name, value=value)])
    assert not result.successful and result.reason
    assert bench.estimator.get_parameter(name).value == before


def test_no_image_of_common_size_is_lost(start):
    peer = start(sync__max_age=0.0)
    rgb = np.zeros((480, 640, 3), np.uint8)  # more than fits into a shared-memory segment
    topic = peer.estimator.resolve_topic_name("image_rect")
    for count in range(1, 21):
        peer.image.publish(graph.image_message(peer.now(), rgb))
        peer.spin_until(
            lambda count=count: peer.estimator.activity.counts().received[topic] == count, 10
        )


@pytest.mark.parametrize("reliability", ["best_effort", "reliable"])
def test_reliability_is_that_of_the_parameter(start, reliability):
    node = start(qos__reliability=reliability).estimator
    for topic, expected in (
        ("image_rect", reliability),
        ("camera_info", reliability),
        ("detections", "reliable"),
    ):
        name = node.resolve_topic_name(topic)
        (found,) = node.get_subscriptions_info_by_topic(name)
        assert found.qos_profile.reliability.name.lower() == expected


# ---- reports ---------------------------------------------------------------------------------


def test_diagnostics_tell_what_arrived_and_what_was_dropped(start):
    peer = start()
    reports: list = []
    peer.node.create_subscription(DiagnosticArray, "/diagnostics", reports.append, 10)
    receive(peer, graph.detection(), graph.detection("person"))

    def values():
        name = peer.estimator.get_fully_qualified_name()[1:] + ": pose distributions"
        mine = [status for report in reports for status in report.status if status.name == name]
        return {value.key: value.value for value in mine[-1].values} if mine else {}

    peer.spin_until(lambda: values().get("results published") == "1")
    assert values()["dropped: unknown class"] == "1"
    assert values()[f"received {peer.node.get_namespace()}/image_rect"] == "1"
