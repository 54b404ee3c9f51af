"""The managed node through its real services: states, loading, memory, and what is counted."""

import gc
import itertools
import platform
import re
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2DArray

import graph
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.network.keypoint_model import PoseModel
from spyropose_ros.demo.processes import free_domain
from spyropose_ros.ros.node import managed_node as node_module
from spyropose_ros.ros.node.lifecycle_node import EstimatorNode
from spyropose_ros.ros.pipeline.drops import Reason

_serial = itertools.count()
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Manager(graph.Peer):
    """A peer that also leads the node through its states."""

    def __init__(self, name: str, bundle: str, **parameters) -> None:
        values = {"objects": [bundle], "device": "cpu", "search__beam": 16, "autostart": False}
        node = EstimatorNode(
            namespace=f"/{name}", parameter_overrides=graph.overrides(**values | parameters)
        )
        super().__init__(f"/{name}", node)

    def call(self, kind: type, name: str, request):
        return graph.call(self.node, self.spin_until, kind, name, request)

    def change(self, label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, "change_state", request).success

    @property
    def state(self) -> str:
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def set(self, name: str, value):
        request = SetParameters.Request()
        request.parameters = [Parameter(name, value=value).to_parameter_msg()]
        (result,) = self.call(SetParameters, "set_parameters", request).results
        return result

    def dropped(self, reason: Reason) -> int:
        return self.estimator.drops.counts().get(reason, 0)

    def configure(self) -> None:
        assert self.change("configure")
        self.spin_until(lambda: self.estimator.ready)
        self.connect()

    def answer(self, class_id: str = "mug"):
        stamp = graph.image_message(self.send(graph.detection(class_id))).header.stamp
        self.spin_until(lambda: any(a.header.stamp == stamp for a in self.distributions))
        return self.distributions[-1]

    def model_info(self) -> str:
        """What a subscriber that comes now is told."""
        received: list[String] = []
        subscription = self.node.create_subscription(
            String, "estimator/model_info", received.append, LATCHED
        )
        self.spin_until(lambda: received)
        self.node.destroy_subscription(subscription)
        return received[-1].data


@pytest.fixture
def manage(mug_bundle):
    managers = []

    def make(**parameters):
        name = f"life_{next(_serial)}"
        managers.append(Manager(name, mug_bundle, **parameters))
        return managers[-1]

    yield make
    for manager in managers:
        manager.close()


@pytest.fixture
def loading(monkeypatch):
    """Holds every model that is loaded until the event is set."""
    go_on = threading.Event()
    load = Estimator.from_pretrained

    def wait_and_load(*given):
        assert go_on.wait(60)
        return load(*given)

    monkeypatch.setattr(Estimator, "from_pretrained", wait_and_load)
    yield go_on
    go_on.set()


def models_alive() -> int:
    gc.unfreeze()  # a session hides what it has loaded from the collector
    gc.collect()
    return sum(type(thing) is PoseModel for thing in gc.get_objects())


def test_the_node_starts_itself(manage):
    manager = manage(autostart=True)
    assert manager.state == "active"
    manager.spin_until(lambda: manager.estimator.ready)
    manager.connect()
    assert len(manager.answer().distributions) == 1


def test_a_manager_leads_it_through_all_states(manage):
    manager = manage()
    topic = manager.node.resolve_topic_name("image_rect")
    assert manager.state == "unconfigured"
    assert manager.node.count_subscribers(topic) == 0
    assert not manager.change("activate")  # not before configure

    manager.configure()
    assert manager.state == "inactive"
    manager.send(graph.detection())
    manager.spin_until(lambda: manager.dropped(Reason.INACTIVE) == 1)
    assert manager.distributions == []

    assert manager.change("activate")
    assert manager.state == "active"
    first = manager.answer().distributions[0].poses

    assert manager.change("deactivate")
    assert manager.state == "inactive"
    manager.send(graph.detection())
    manager.spin_until(lambda: manager.dropped(Reason.INACTIVE) == 2)
    assert len(manager.distributions) == 1
    assert manager.change("activate")
    assert manager.answer().distributions[0].poses == first

    assert manager.change("deactivate")
    assert manager.change("cleanup")
    assert manager.state == "unconfigured"
    manager.spin_until(lambda: manager.node.count_subscribers(topic) == 0)
    manager.configure()
    assert manager.change("activate")
    assert manager.answer().distributions[0].poses == first

    assert manager.change("active_shutdown") or manager.change("shutdown")
    assert manager.state == "finalized"
    manager.spin_until(lambda: manager.node.count_subscribers(topic) == 0)


def test_configure_fails_with_a_missing_bundle_and_can_be_tried_again(manage, mug_bundle):
    manager = manage(objects=["/nowhere/mug"])
    said = []
    manager.node.create_subscription(Log, "/rosout", lambda log: said.append(log.msg), 10)
    manager.spin_until(lambda: manager.node.count_publishers("/rosout") > 1)
    assert not manager.change("configure")
    assert manager.state == "unconfigured"
    manager.spin_until(lambda: any("not configured: parameter 'objects'" in text for text in said))
    assert not manager.estimator.failure.done()
    assert manager.set("objects", [mug_bundle]).successful
    manager.configure()
    assert manager.state == "inactive"


def test_services_and_diagnostics_answer_while_models_load(manage, loading):
    manager = manage(autostart=True)
    reports: list = []
    manager.node.create_subscription(DiagnosticArray, "/diagnostics", reports.append, 10)
    name = manager.estimator.get_fully_qualified_name()[1:] + ": pose distributions"

    def messages():
        return [s.message for report in reports for s in report.status if s.name == name]

    manager.connect()
    request = GetParameters.Request(names=["search.beam"])
    (value,) = manager.call(GetParameters, "get_parameters", request).values
    assert value.integer_value == 16
    assert manager.set("output.max_poses", 20).successful
    manager.spin_until(lambda: "loading the models" in messages())
    (hardware,) = {s.hardware_id for report in reports for s in report.status if s.name == name}
    assert hardware == f"{platform.node()} cpu"
    for _ in range(3):
        newest = manager.send(graph.detection())
    manager.spin_until(lambda: manager.dropped(Reason.BUSY) == 2)
    assert not manager.estimator.ready
    manager.set("sync.max_age", 0.0)
    loading.set()
    manager.spin_until(lambda: manager.distributions)
    (answer,) = manager.distributions
    assert answer.header.stamp == graph.image_message(newest).header.stamp
    assert len(answer.distributions[0].poses) == 20
    manager.spin_until(lambda: "running" in messages())


def test_cleanup_frees_the_models_and_other_ones_may_follow(manage, duck_bundle):
    before = models_alive()
    manager = manage()
    manager.configure()
    assert manager.change("activate")
    manager.answer()
    assert models_alive() == before + 1

    refused = manager.set("objects", [duck_bundle])
    assert not refused.successful
    assert "'objects' is in use" in refused.reason
    assert "deactivate, then cleanup" in refused.reason

    assert manager.change("deactivate")
    assert manager.change("cleanup")
    assert models_alive() == before

    assert manager.set("objects", [duck_bundle]).successful
    manager.configure()
    assert manager.change("activate")
    assert models_alive() == before + 1
    (message,) = manager.answer("duck").distributions
    assert message.model_id == "duck"
    assert "duck" in manager.model_info() and "mug" not in manager.model_info()


def test_cleanup_while_models_load_ends_in_the_newer_models(
    manage, loading, duck_bundle, monkeypatch
):
    monkeypatch.setattr(node_module, "STOP_TIMEOUT", 0.05)
    before = models_alive()
    manager = manage()
    assert manager.change("configure")
    assert manager.change("cleanup")
    assert manager.set("objects", [duck_bundle]).successful
    assert manager.change("configure")
    loading.set()
    manager.spin_until(lambda: manager.estimator.ready)
    manager.spin_until(lambda: models_alive() == before + 1)
    assert "duck" in manager.model_info() and "mug" not in manager.model_info()
    manager.connect()
    assert manager.change("activate")
    assert manager.answer("duck").distributions


def test_a_failure_of_models_that_nobody_wants_any_more_ends_nothing(
    manage, loading, monkeypatch, tmp_path
):
    monkeypatch.setattr(node_module, "STOP_TIMEOUT", 0.05)
    manager = manage()
    ended = threading.Event()
    monkeypatch.setattr(
        Estimator, "from_pretrained", lambda *_: (loading.wait(60), ended.set(), 1 / 0)
    )
    assert manager.change("configure")
    assert manager.change("cleanup")
    loading.set()
    manager.spin_until(ended.is_set)
    monkeypatch.undo()
    manager.configure()
    assert manager.change("activate")
    assert manager.answer().distributions
    assert not manager.estimator.failure.done()


def test_switching_off_and_on_survives_the_states(manage):
    manager = manage()
    off, on = SetBool.Request(data=False), SetBool.Request(data=True)
    assert manager.call(SetBool, "enable", off).message == "not configured"
    reset = manager.call(Trigger, "reset", Trigger.Request())
    assert not reset.success and "not configured" in reset.message
    manager.configure()
    assert manager.call(SetBool, "enable", off).message == "inactive"
    assert manager.change("activate")
    assert manager.call(SetBool, "enable", off).message == "disabled"
    manager.send(graph.detection())
    manager.spin_until(lambda: manager.dropped(Reason.DISABLED) == 1)
    response = manager.call(SetBool, "enable", on)
    assert response.success and response.message == "running"
    manager.answer()
    assert manager.call(Trigger, "reset", Trigger.Request()).success
    manager.answer()


def test_reset_forgets_waiting_detections(manage):
    manager = manage()
    manager.configure()
    assert manager.change("activate")
    now = manager.now()
    topic = manager.node.resolve_topic_name("detections")
    manager.detections.publish(graph.detections_message(now, graph.detection()))
    received = manager.estimator.activity.counts
    manager.spin_until(lambda: received().received[topic] == 1)
    assert manager.call(Trigger, "reset", Trigger.Request()).success
    manager.camera_info.publish(graph.camera_info_message(now))
    manager.image.publish(graph.image_message(now))
    manager.answer()
    assert len(manager.distributions) == 1


def test_model_info_reaches_a_late_subscriber(manage):
    manager = manage(autostart=True)
    manager.spin_until(lambda: manager.estimator.ready)
    manager.connect()
    manager.answer()
    assert "mug" in manager.model_info()


def faulty(index: int, image: Image) -> tuple[Image, list]:
    """An image with one of many faults, and its detections; None for none."""
    detections = [graph.detection()]
    match index % 7:
        case 1:
            image.encoding = "unknown"
        case 2:
            image.data = image.data[:-5]
        case 3:
            image.header.stamp.sec = image.header.stamp.nanosec = 0
        case 4:
            detections = None
        case 5:
            detections = [graph.detection("person"), graph.detection(size_x=-1.0)]
        case 6:
            image.header.stamp.sec -= 3
    return image, detections


@pytest.mark.parametrize("cameras", [[], ["left", "right"]])
def test_every_image_is_accounted_for(manage, monkeypatch, cameras):
    """Received are those that were processed, dropped with a reason, or still wait."""
    many = {
        "cameras": cameras,
        "fixed_frame": "world",
        "camera_poses": ["left=0 0 0 0 0 0 1", "right=0 0 0 0 0 0 1"],
        "views__wait": 0.05,
    }
    manager = manage(**(many if cameras else {}), sync__max_age=2.0, sync__buffer_size=8)
    assert manager.change("configure")
    manager.spin_until(lambda: manager.estimator.ready)
    prefixes = [f"{camera}/" for camera in cameras] or [""]
    kinds = {"image_rect": Image, "camera_info": CameraInfo, "detections": Detection2DArray}
    publishers = {
        prefix + topic: manager.node.create_publisher(kind, prefix + topic, 10)
        for prefix in prefixes
        for topic, kind in kinds.items()
    }
    manager.spin_until(lambda: all(p.get_subscription_count() for p in publishers.values()))
    assert manager.change("activate")
    estimate = Estimator.estimate, Estimator.estimate_multiview
    calls = iter(range(10**6))

    def unreliable(original):
        def run(*given):
            if next(calls) % 3 == 2:
                raise RuntimeError("cuDNN error")
            return original(*given)

        return run

    monkeypatch.setattr(Estimator, "estimate", unreliable(estimate[0]))
    monkeypatch.setattr(Estimator, "estimate_multiview", unreliable(estimate[1]))

    def received(topic: str) -> int:
        names = (manager.node.resolve_topic_name(prefix + topic) for prefix in prefixes)
        return sum(manager.estimator.activity.counts().received[name] for name in names)

    def explained(*others: Reason) -> int:
        drops = manager.estimator.drops.counts()
        processed = manager.estimator.activity.counts().processed
        return processed + sum(drops.get(r, 0) for r in Reason if r.drops_image and r not in others)

    def idle() -> bool:
        frames = explained(Reason.IMAGE_STAMP, Reason.NO_DETECTIONS)
        return frames == manager.estimator.activity.counts().matched

    count, boxes = 70, 0
    for index in range(count):
        for shift, prefix in enumerate(prefixes):
            image, detections = faulty(index + 3 * shift, graph.image_message(manager.now()))
            stamp = image.header.stamp
            nanoseconds = stamp.sec * graph.SECOND + stamp.nanosec
            if index >= 10:  # none at first
                info = graph.camera_info_message()
                info.width += index % 14 == 7
                publishers[prefix + "camera_info"].publish(info)
            publishers[prefix + "image_rect"].publish(image)
            if detections is not None:
                message = graph.detections_message(nanoseconds, *detections)
                publishers[prefix + "detections"].publish(message)
                boxes += 1
        if index in (30, 40):
            assert manager.call(SetBool, "enable", SetBool.Request(data=index == 40)).success
        images = (index + 1) * len(prefixes)
        manager.spin_until(
            lambda images=images, boxes=boxes: (
                received("image_rect") == images and received("detections") == boxes
            )
        )
        if not 50 <= index < 60:  # a burst
            manager.spin_until(idle)
    assert manager.call(Trigger, "reset", Trigger.Request()).success
    assert 0 <= received("image_rect") - explained() <= len(prefixes) * 16 + 2
    assert manager.change("deactivate")
    assert manager.change("cleanup")
    assert received("image_rect") == count * len(prefixes) == explained()
    drops = manager.estimator.drops.counts()
    for reason in (
        Reason.BAD_IMAGE,
        Reason.IMAGE_STAMP,
        Reason.NO_DETECTIONS,
        Reason.NO_CAMERA_INFO,
        Reason.BAD_CAMERA_INFO,
        Reason.STALE,
        Reason.DISABLED,
        Reason.ERROR,
    ):
        assert drops.get(reason, 0) > 0, reason
    assert manager.estimator.activity.counts().processed > 0


def test_the_security_policy_names_exactly_what_the_node_uses():
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    policy = ElementTree.fromstring(re.search("(<policy.*</policy>)", text, re.DOTALL)[1])
    (profile,) = policy.iter("profile")

    def allowed(group: str, access: str) -> set[str]:
        return {
            entry.text
            for found in profile.findall(group)
            if access in found.attrib
            for entry in found
        }

    values = {"fixed_frame": "world", "depth_image": True, "use_sim_time": True, "device": "cpu"}
    values["detector"] = "topic"  # the demo's model has a detector
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=free_domain())
    node = EstimatorNode(context=context, parameter_overrides=graph.overrides(**values))
    try:
        name = node.get_name(), node.get_namespace()
        published = node.get_publisher_names_and_types_by_node(*name)
        subscribed = node.get_subscriber_names_and_types_by_node(*name)
        served = node.get_service_names_and_types_by_node(*name)
        served += node.get_service_names_and_types_by_node("_estimator_questions", "/")
        called = node.get_client_names_and_types_by_node(*name)
    finally:
        node.stop()
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert {topic for topic, _ in published} == allowed("topics", "publish")
    assert {topic for topic, _ in subscribed} == allowed("topics", "subscribe")
    assert {service for service, _ in served} == allowed("services", "reply")
    assert called == []
