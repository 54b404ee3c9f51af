"""The node on a real graph, in this process: what goes in, what comes out, what is refused."""

import threading

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
from spyropose_ros.ros import parameters, rotations
from spyropose_ros.ros.conversions import check_invariants, pose_arrays
from spyropose_ros.ros.diagnostics import Reason
from spyropose_ros.ros.images import rgb_image
from spyropose_ros.ros.parameters import ParameterError, Parameters

NAN = float("nan")


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
        lambda self, image, K, boxes: (
            calls.append((self.bundle.object.name, len(boxes))),
            estimate(self, image, K, boxes),
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


def test_two_nodes_in_two_namespaces_do_not_mix(start):
    first, second = start(), start()
    receive(first, graph.detection())
    first.spin(0.2)
    second.spin(0.5)
    assert second.distributions == []
    receive(second, graph.detection())
    first.spin(0.2)
    assert len(first.distributions) == len(second.distributions) == 1


# ---- bad input -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(mug_bundle):
    """One node for all bad input: it must survive the whole module."""
    from spyropose_ros.ros.node import EstimatorNode

    values = {"objects": [mug_bundle], "device": "cpu", "search__beam": 16, "sync__max_age": 60.0}
    node = EstimatorNode(namespace="/bad_input", parameter_overrides=graph.overrides(**values))
    peer = graph.Peer("/bad_input", node)
    peer.connect()
    peer.spin_until(lambda: node.ready)
    yield peer
    peer.close()


def changed(message, **values):
    for name, value in values.items():
        setattr(message, name, value)
    return message


BAD_FRAMES = {
    "encoding": ({"image": {"encoding": "32FC1"}}, Reason.BAD_IMAGE),
    "cut-off data": ({"image": {"data": graph.image_message(1).data[:-1]}}, Reason.BAD_IMAGE),
    "step": ({"image": {"step": 7}}, Reason.BAD_IMAGE),
    "no pixels": ({"image": {"width": 0, "height": 0}}, Reason.BAD_IMAGE),
    "zero calibration": ({"info": {"k": [0.0] * 9, "p": [0.0] * 12}}, Reason.BAD_CAMERA_INFO),
    "NaN calibration": ({"info": {"p": [NAN] * 12}}, Reason.BAD_CAMERA_INFO),
    "other size": ({"info": {"width": 1920, "height": 1080}}, Reason.BAD_CAMERA_INFO),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames_are_counted_and_the_next_one_works(bench, name):
    changes, reason = BAD_FRAMES[name]
    before = bench.estimator.drops.counts().get(reason, 0)
    published = len(bench.distributions)
    image = changed(graph.image_message(1), **changes.get("image", {}))
    info = changed(graph.camera_info_message(), **changes.get("info", {}))
    bench.send(graph.detection(), image=image, info=info)
    bench.spin_until(lambda: bench.estimator.drops.counts().get(reason, 0) == before + 1)
    assert len(bench.distributions) == published
    assert len(receive(bench, graph.detection()).distributions) == 1


BAD_DETECTIONS = {
    "no hypothesis": (graph.detection(None), Reason.UNKNOWN_CLASS),
    "unknown class": (graph.detection("person"), Reason.UNKNOWN_CLASS),
    "empty class": (graph.detection(""), Reason.UNKNOWN_CLASS),
    "NaN centre": (graph.detection(x=NAN), Reason.BAD_BOX),
    "NaN size": (graph.detection(size_y=NAN), Reason.BAD_BOX),
    "zero size": (graph.detection(size_x=0.0), Reason.BAD_BOX),
    "negative size": (graph.detection(size_x=-4.0), Reason.BAD_BOX),
    "outside": (graph.detection(x=900.0), Reason.BAD_BOX),
}


@pytest.mark.parametrize("name", BAD_DETECTIONS)
def test_bad_detections_are_counted_and_the_others_of_the_frame_stay(bench, name):
    bad, reason = BAD_DETECTIONS[name]
    before = bench.estimator.drops.counts().get(reason, 0)
    array = receive(bench, bad, graph.detection(name="good"))
    assert [d.detection_id for d in array.distributions] == ["good"]
    assert bench.estimator.drops.counts()[reason] == before + 1


@pytest.mark.parametrize(
    "box",
    [
        {"size_x": 0.01, "size_y": 0.01},
        {"size_x": 1e5, "size_y": 1e5},
        {"x": 0.0, "y": 0.0},
        {"x": 159.0, "y": 119.0, "size_x": 300.0},
    ],
)
def test_extreme_boxes_give_valid_distributions(bench, box):
    (message,) = receive(bench, graph.detection(**box)).distributions
    check_invariants(message)


def test_zero_stamps_are_counted_and_never_matched(bench):
    before = bench.estimator.drops.counts().get(Reason.NO_STAMP, 0)
    published = len(bench.distributions)
    bench.image.publish(graph.image_message(0))
    bench.detections.publish(graph.detections_message(0, graph.detection()))
    bench.spin_until(lambda: bench.estimator.drops.counts().get(Reason.NO_STAMP) == before + 2)
    assert len(bench.distributions) == published


def test_images_without_camera_info_are_counted(start):
    peer = start()
    now = peer.now()
    peer.image.publish(graph.image_message(now))
    peer.detections.publish(graph.detections_message(now, graph.detection()))
    peer.spin_until(lambda: peer.estimator.drops.counts() == {Reason.NO_CAMERA_INFO: 1})
    receive(peer, graph.detection())


def test_stamps_that_go_back_reset_the_matcher_and_work_goes_on(start):
    peer = start(sync__max_age=0.0)
    receive(peer, graph.detection())
    for back in (5, 4):
        stamp = peer.now() - back * graph.SECOND
        peer.image.publish(graph.image_message(stamp))
        peer.detections.publish(graph.detections_message(stamp, graph.detection()))
        peer.spin_until(lambda stamp=stamp: stamp_of(peer.distributions[-1]) == stamp)
    # Detections may be taken before the image that reveals the jump: dropped with it
    assert peer.estimator.drops.counts().keys() <= {Reason.TIME_JUMP, Reason.UNMATCHED}


def test_old_frames_are_dropped_and_named(start):
    peer = start(sync__max_age=0.5)
    peer.camera_info.publish(graph.camera_info_message())
    old = peer.now() - 3 * graph.SECOND
    peer.image.publish(graph.image_message(old))
    peer.detections.publish(graph.detections_message(old, graph.detection()))
    peer.spin_until(lambda: peer.estimator.drops.counts() == {Reason.STALE: 1})


def test_frames_pass_while_simulated_time_has_not_begun(start):
    peer = start(use_sim_time=True)
    assert len(receive(peer, graph.detection()).distributions) == 1


def test_an_error_of_the_model_costs_one_frame(start, monkeypatch):
    peer = start()
    estimate = Estimator.estimate

    def fail_once(*arguments):
        monkeypatch.setattr(Estimator, "estimate", estimate)
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Estimator, "estimate", fail_once)
    peer.send(graph.detection())
    peer.spin_until(lambda: peer.estimator.drops.counts() == {Reason.ERROR: 1})
    assert len(receive(peer, graph.detection()).distributions) == 1


def test_a_slow_model_always_gets_the_newest_frame(start, monkeypatch):
    peer = start(sync__max_age=0.0)
    busy, go_on = threading.Event(), threading.Event()
    estimate = Estimator.estimate

    def wait_and_estimate(*arguments):
        busy.set()
        assert go_on.wait(60)
        return estimate(*arguments)

    monkeypatch.setattr(Estimator, "estimate", wait_and_estimate)
    first = peer.send(graph.detection())
    peer.spin_until(busy.is_set)
    drops = peer.estimator.drops
    for count in range(10):
        newest = peer.send(graph.detection())
        peer.spin_until(lambda count=count: drops.counts().get(Reason.BUSY, 0) == count)
    go_on.set()
    peer.spin_until(lambda: len(peer.distributions) == 2)
    peer.spin(0.5)
    assert [stamp_of(array) for array in peer.distributions] == [first, newest]
    assert drops.counts() == {Reason.BUSY: 9}


# ---- parameters ------------------------------------------------------------------------------


def test_declared_parameters_are_those_of_the_dataclass(start):
    node = start().estimator
    defaults = parameters.flatten(Parameters())
    for name, description in parameters.descriptions():
        declared = node.describe_parameter(name)
        assert declared.description == description.text
        assert declared.read_only != description.dynamic
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


@pytest.mark.parametrize(
    "values, text",
    [
        ({"sync__slop": 1}, "'sync.slop' is 1 but must be a number with a decimal point"),
        ({"search__beam": 64.0}, "'search.beam' is 64.0 but must be a whole number"),
        ({"device": 0}, "'device' is 0 but must be a text"),
        ({"objects": "mug"}, "'objects' is 'mug' but must be a list of texts"),
        ({"output__mesh": "yes"}, "'output.mesh' is 'yes' but must be true or false"),
        ({"sync__max_age": 1000.0}, "'sync.max_age' is 1000.0 but must be from 0.0 to 60.0"),
        ({"qos__reliability": "relaible"}, "write one of reliable, best_effort"),
        ({"class_map": ["mug"]}, "write 'class_id=object_name'"),
    ],
)
def test_wrong_parameters_stop_the_start_and_are_explained(values, text):
    from spyropose_ros.ros.node import EstimatorNode

    with pytest.raises(ParameterError) as caught:
        EstimatorNode(parameter_overrides=graph.overrides(**values))
    assert text in str(caught.value)


def test_no_image_of_common_size_is_lost(start):
    peer = start(sync__max_age=0.0)
    rgb = np.zeros((480, 640, 3), np.uint8)  # more than fits into a shared-memory segment
    topic = peer.estimator.resolve_topic_name("image_rect")
    for count in range(1, 21):
        peer.image.publish(graph.image_message(peer.now(), rgb))
        peer.spin_until(
            lambda count=count: peer.estimator.activity.snapshot()[0][topic] == count, 10
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

    peer.spin_until(lambda: values().get("published") == "1")
    assert values()["dropped: unknown class"] == "1"
    assert values()[f"received {peer.node.get_namespace()}/image_rect"] == "1"
