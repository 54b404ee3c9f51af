"""The detector as a node: images in, detections for the estimator out."""

import io
import os
import signal
import subprocess
import sys
import time
from array import array
from pathlib import Path

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from PIL import Image as PillowImage
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

import graph
from spyropose_ros.detector.detector import Detector
from spyropose_ros.ros.node.detector_node import DetectorNode
from spyropose_ros.ros.pipeline import parameters
from spyropose_ros.ros.pipeline.detections import select_targets
from spyropose_ros.ros.pipeline.detector_parameters import DetectorNodeParameters
from spyropose_ros.ros.pipeline.drops import Reason
from spyropose_ros.ros.pipeline.parameters import ParameterError

YAML = Path(__file__).parents[2] / "config" / "detector.yaml"


class Peer:
    """A camera and a listener around one detector node in this process."""

    def __init__(self, namespace, image_kind=Image, topic="image", **values):
        values = {"detector": graph.COCO, "detector__min_score": 0.3} | values
        values = {"device": "cpu", "sync__max_age": 60.0} | values
        overrides = graph.overrides(**values)
        self.detector = DetectorNode(namespace=namespace, parameter_overrides=overrides)
        self.node = Node("peer", namespace=namespace)
        self._executor = SingleThreadedExecutor()
        for member in (self.node, self.detector):
            self._executor.add_node(member)
        self.image = self.node.create_publisher(image_kind, topic, 5)
        self.received, self.reports = [], []
        create = self.node.create_subscription
        create(Detection2DArray, "detections", self.received.append, 10)
        create(DiagnosticArray, "/diagnostics", self.reports.append, 10)
        self.spin_until(
            lambda: (
                (self.image.get_subscription_count() or not values.get("autostart", True))
                and self.node.count_publishers("detections")
                and (self.detector.ready or not values.get("autostart", True))
            )
        )
        self.spin(0.3)

    def spin_until(self, condition, timeout=30.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "nothing happened in time"
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds):
        deadline = time.monotonic() + seconds
        self.spin_until(lambda: time.monotonic() > deadline)

    def send(self, message):
        now = self.node.get_clock().now().nanoseconds
        self.image.publish(graph.stamp(message, now))
        return message.header

    def answer(self, message):
        header = self.send(message)

        def found():
            return [m for m in self.received if m.header == header]

        self.spin_until(found)
        return found()[0]

    def values(self):
        """The first report of /diagnostics that counts every answer received until now."""
        self.reports.clear()
        name = f"{self.detector.get_fully_qualified_name()[1:]}: detections"

        def latest():
            statuses = [s for report in self.reports for s in report.status if s.name == name]
            return {value.key: value.value for value in statuses[-1].values} if statuses else {}

        # An answer may be received before it is counted
        answers = len(self.received)
        self.spin_until(lambda: int(latest().get("results published", -1)) >= answers)
        return latest()

    def close(self):
        self._executor.shutdown()
        self.detector.stop()
        self.detector.destroy_node()
        self.node.destroy_node()


@pytest.fixture
def start(request):
    peers = []

    def start_node(**values):
        namespace = f"/detector_{abs(hash(request.node.name)) % 10**9}_{len(peers)}"
        peers.append(Peer(namespace, **values))
        return peers[-1]

    yield start_node
    for peer in peers:
        peer.close()


def test_every_image_is_answered_with_its_header_and_the_boxes(start, photograph):
    peer = start()
    message = peer.answer(graph.image_message(0, photograph))
    expected = Detector.from_pretrained(graph.COCO, "cpu").detect(photograph)
    classes = {name: name for name in expected.names}
    height, width = photograph.shape[:2]
    targets = select_targets(message, width, height, classes, 0.0, 100, lambda *_: None)
    assert [t.class_id for t in targets] == expected.names == ["person", "tie"]
    np.testing.assert_allclose([t.box for t in targets], expected.boxes, atol=1e-4)
    np.testing.assert_allclose([t.score for t in targets], expected.scores, rtol=1e-6)
    assert all(each.header == message.header for each in message.detections)


def test_the_estimator_reads_them(start, photograph, mug_bundle):
    from spyropose_ros.ros.node.lifecycle_node import EstimatorNode

    peer = start()
    namespace = peer.detector.get_namespace()
    overrides = graph.overrides(
        objects=[mug_bundle], device="cpu", search__beam=16, class_map=["tie=mug"],
        sync__max_age=60.0,
    )  # fmt: skip
    estimator = EstimatorNode(namespace=namespace, parameter_overrides=overrides)
    camera = graph.Peer(namespace, estimator, image_topic="image_rect")
    try:
        camera.spin_until(lambda: estimator.ready and camera.image.get_subscription_count())
        now = camera.now()
        camera.camera_info.publish(graph.camera_info_message(now, photograph))
        image = graph.image_message(now, photograph)
        camera.image.publish(image)
        peer.image.publish(image)
        peer.spin_until(lambda: peer.received)
        camera.spin_until(lambda: camera.distributions)
        (distribution,) = camera.distributions[0].distributions
        assert distribution.class_id == "tie"
        assert estimator.drops.counts() == {Reason.UNKNOWN_CLASS: 1}  # the person
    finally:
        camera.close()


def test_nothing_found_is_an_empty_array(start, photograph):
    peer = start()
    assert peer.answer(graph.image_message(0, np.zeros_like(photograph))).detections == []
    values = peer.values()
    assert (values["models"], values["boxes found"]) == ("nanodet_coco", "0")
    assert values["images processed"] == "1"
    assert float(values["detection (ms, median / 95 %)"].split(" / ")[0]) > 0


def test_settings_apply_to_the_next_image(start, photograph):
    peer = start()
    peer.detector.set_parameters(graph.overrides(detector__max_count=1))
    assert len(peer.answer(graph.image_message(0, photograph)).detections) == 1
    peer.detector.set_parameters(graph.overrides(detector__min_score=0.99))
    assert peer.answer(graph.image_message(0, photograph)).detections == []


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_compressed_images(start, photograph, kind):
    topic = "image/compressed"
    peer = start(image_kind=CompressedImage, topic=topic, image_transport="compressed")
    file = io.BytesIO()
    PillowImage.fromarray(photograph).save(file, kind)
    message = CompressedImage(format=kind, data=array("B", file.getvalue()))
    assert len(peer.answer(message).detections) >= 2


def test_grey_images(start, photograph):
    message = graph.image_message(0, photograph)
    grey = np.asarray(PillowImage.fromarray(photograph).convert("L"))
    message.encoding, message.step = "mono8", grey.shape[1]
    message.data = array("B", grey.tobytes())
    assert len(start().answer(message).detections) >= 1


def test_what_is_not_searched_is_counted(start, photograph):
    peer = start(detector__rate=0.1)
    peer.image.publish(graph.image_message(0, photograph))  # without stamp
    drops = peer.detector.drops
    peer.spin_until(lambda: drops.counts() == {Reason.IMAGE_STAMP: 1})
    bad = graph.image_message(0, photograph)
    bad.data = bad.data[:-10]
    peer.send(bad)
    peer.spin_until(lambda: Reason.BAD_IMAGE in drops.counts())
    assert peer.answer(graph.image_message(0, photograph)).detections  # it did not count
    peer.send(graph.image_message(0, photograph))
    peer.spin_until(lambda: Reason.NO_DETECTIONS in drops.counts())
    assert set(drops.counts().values()) == {1}
    peer.received.clear()
    peer.detector.set_parameters(graph.overrides(detector__rate=0.0, sync__max_age=1.0))
    a_minute_ago = peer.node.get_clock().now().nanoseconds - 60 * graph.SECOND
    peer.image.publish(graph.image_message(a_minute_ago, photograph))
    peer.spin_until(lambda: Reason.STALE in drops.counts())
    assert peer.received == []


def test_a_manager_leads_it_through_its_states(start, photograph):
    peer = start(autostart=False, detector__rate=0.01)
    node = peer.detector
    assert node.trigger_configure().name == "SUCCESS"
    peer.spin_until(lambda: node.ready and peer.image.get_subscription_count())
    peer.send(graph.image_message(0, photograph))
    peer.spin_until(lambda: node.drops.counts() == {Reason.INACTIVE: 1})
    peer.send(graph.image_message(0, photograph))  # not dropped for the rate
    peer.spin_until(lambda: node.drops.counts() == {Reason.INACTIVE: 2})
    assert node.trigger_activate().name == "SUCCESS"
    assert peer.answer(graph.image_message(0, photograph)).detections
    assert node.trigger_deactivate().name == "SUCCESS"
    assert node.trigger_cleanup().name == "SUCCESS"
    assert node._state_machine.current_state[0] == State.PRIMARY_STATE_UNCONFIGURED
    peer.spin_until(lambda: not peer.image.get_subscription_count())


@pytest.mark.parametrize(
    "values, text",
    [
        ({"detector": "/nowhere"}, "'detector': no model bundle at '/nowhere'"),
        ({"detector": "models"}, "'detector': models holds no detector"),
        ({"detector__rate": 1}, "'detector.rate' is 1 but must be a number with a decimal point"),
        ({"image_transport": "raww"}, "write one of raw, compressed"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(values, text, monkeypatch):
    monkeypatch.chdir(Path(graph.COCO).parents[1])
    given = {"detector": graph.COCO, "device": "cpu"} | values
    with pytest.raises(ParameterError, match=text):
        DetectorNode(parameter_overrides=graph.overrides(**given))


def test_a_device_that_does_not_exist_ends_it(start):
    peer = start(autostart=False, device="cuda:99")
    peer.detector.trigger_configure()
    peer.spin_until(peer.detector.failure.done)
    assert "'cuda:99' is not available here" in str(peer.detector.failure.result())


def test_the_file_lists_every_parameter_with_its_default():
    tree = yaml.safe_load(YAML.read_text())["/**"]["ros__parameters"]
    flat = {
        name if key is None else f"{name}.{key}": value
        for name, group in tree.items()
        for key, value in (group.items() if isinstance(group, dict) else [(None, group)])
    }
    assert flat == parameters.flatten(DetectorNodeParameters())


def test_the_process_reads_its_file_and_ends_on_ctrl_c():
    command = [sys.executable, "-m", "spyropose_ros.ros.node.detector_process", "--ros-args"]
    options = ["--params-file", str(YAML), "-p", f"detector:={graph.COCO}", "-p", "device:=cpu"]
    process = subprocess.Popen(
        [*command, *options, "-p", "max_age:=1.0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "RCUTILS_LOGGING_BUFFERED_STREAM": "0"},
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "ready after" in line:
            process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    text = "".join(lines)
    assert "nanodet_coco finds person, bicycle" in text and "waiting for /image" in text
    assert "unknown parameter 'max_age' is ignored: did you mean 'sync.max_age'?" in text
    assert "Traceback" not in text
