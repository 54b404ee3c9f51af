"""The node's other inputs on a real graph: transports, raw lenses, depth, several cameras, time."""

import json
from array import array

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rcl_interfaces.msg import ParameterType
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray

import graph
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.ros.messages.conversions import pose_arrays
from spyropose_ros.ros.messages.invariants import check_invariants
from spyropose_ros.ros.pipeline.depth import centers_from_depth
from spyropose_ros.ros.pipeline.drops import Reason

K = np.array([[150.0, 0, 79.5], [0, 150, 59.5], [0, 0, 1]])
SETTINGS = SearchSettings(beam=32)


def stamp_of(message) -> int:
    return message.header.stamp.sec * graph.SECOND + message.header.stamp.nanosec


def same_poses(message, distribution) -> None:
    """Asserts that a message holds a distribution."""
    top = distribution.to("cpu").top(len(message.poses))
    positions, _ = pose_arrays(message.poses)
    np.testing.assert_allclose(positions, top.translations.double(), atol=1e-6)
    np.testing.assert_allclose(message.weights, top.probabilities, rtol=1e-4)


# ---- transports, lenses, depth ---------------------------------------------------------------


def test_compressed_images_are_decoded(start, mug_bundle):
    peer = start(wait_for_topics=False, image_transport="compressed")
    topic = peer.node.create_publisher(CompressedImage, "image_rect/compressed", 5)
    peer.spin_until(topic.get_subscription_count)
    peer.spin_until(peer.camera_info.get_subscription_count)
    peer.spin_until(peer.detections.get_subscription_count)
    now = peer.now()
    message = graph.stamp(CompressedImage(format="rgb8; png compressed bgr8"), now)
    ok, data = cv2.imencode(".png", cv2.cvtColor(graph.picture(), cv2.COLOR_RGB2BGR))
    assert ok
    message.data = array("B", data.tobytes())
    peer.camera_info.publish(graph.camera_info_message(now))
    peer.spin(0.05)
    topic.publish(message)
    peer.detections.publish(graph.detections_message(now, graph.detection()))
    peer.spin_until(lambda: peer.distributions)
    estimator = Estimator.from_pretrained(mug_bundle, "cpu", SETTINGS)
    (expected,) = estimator.estimate(graph.picture(), K, np.array([[50.0, 35, 110, 85]]))
    same_poses(peer.distributions[0].distributions[0], expected)


def test_raw_images_are_rectified_with_their_boxes(start, mug_bundle):
    peer = start(rectified=False)
    info = graph.camera_info_message()
    info.distortion_model, info.d = "plumb_bob", [-0.3, 0.1, 0.0, 0.0, 0.0]
    info.k, info.r = K.ravel(), np.eye(3).ravel()
    sent = peer.send(graph.detection(), info=info)
    peer.spin_until(lambda: peer.distributions)
    assert stamp_of(peer.distributions[0]) == sent
    D = np.array(info.d)
    image = cv2.remap(
        graph.picture(),
        *cv2.initUndistortRectifyMap(K, D, None, K, (graph.WIDTH, graph.HEIGHT), cv2.CV_16SC2),
        cv2.INTER_LINEAR,
    )
    edge = np.linspace(0, 1, 50)
    x, y = 50 + 60 * edge, 35 + 50 * edge
    outline = [(a, b) for a in x for b in (35.0, 85.0)] + [(a, b) for b in y for a in (50.0, 110.0)]
    moved = cv2.undistortPoints(np.array(outline)[:, None], K, D, P=K)[:, 0]
    box = np.concatenate([moved.min(0), moved.max(0)])[None]
    estimator = Estimator.from_pretrained(mug_bundle, "cpu", SETTINGS)
    (expected,) = estimator.estimate(image, K, box)
    (message,) = peer.distributions[0].distributions
    positions, _ = pose_arrays(message.poses)
    # the outlines are sampled at other points: equal but for hundredths of a pixel
    np.testing.assert_allclose(
        positions.mean(0), expected.top(256).translations.double().mean(0), atol=2e-3
    )


def test_depth_images_give_the_distance(start, mug_bundle):
    peer = start(depth_image=True, sync__max_age=0.0)
    depth = peer.node.create_publisher(Image, "depth", 5)
    peer.spin_until(depth.get_subscription_count)

    estimator = Estimator.from_pretrained(mug_bundle, "cpu", SETTINGS)
    box = np.array([[50.0, 35, 110, 85]])
    for metres in (0.28, 0.34):
        now, before = peer.now(), len(peer.distributions)
        wall = np.full((graph.HEIGHT, graph.WIDTH), round(1000 * metres), "<u2")
        message = graph.stamp(Image(height=120, width=160, encoding="16UC1", step=320), now)
        message.data = array("B", wall.tobytes())
        depth.publish(message)
        peer.spin(0.1)
        peer.camera_info.publish(graph.camera_info_message(now))
        peer.image.publish(graph.image_message(now))
        peer.detections.publish(graph.detections_message(now, graph.detection()))
        peer.spin_until(lambda before=before: len(peer.distributions) > before)
        diameters = np.array([estimator.bundle.object.diameter])
        centers = centers_from_depth(wall / 1000, K, box, diameters)
        assert centers[0, 2] > metres
        (expected,) = estimator.estimate(graph.picture(), K, box, centers)
        same_poses(peer.distributions[-1].distributions[0], expected)
    assert peer.estimator.drops.counts() == {}
    peer.send(graph.detection())  # without depth
    peer.spin_until(lambda: len(peer.distributions) == 3)
    assert peer.estimator.drops.counts() == {Reason.NO_DEPTH: 1}


def test_parameters_may_override_the_quality_of_service(start):
    node = start().estimator
    names = [name for name in node._parameters if name.startswith("qos_overrides.")]
    assert any(name.endswith("image_rect.subscription.reliability") for name in names)
    assert node.describe_parameter(names[0]).type != ParameterType.PARAMETER_NOT_SET


# ---- several cameras -------------------------------------------------------------------------

CAMERAS = ("left", "right")
# of the cameras in base: 0.3 m before an object at the origin, looking at it from two sides
LOOK = {"left": "0 0 -0.3 0 0 0 1", "right": "0.3 0 0 0 -0.70710678 0 0.70710678"}


class Rig:
    """Publishes for several cameras of one node."""

    def __init__(self, peer) -> None:
        self.peer = peer
        create = peer.node.create_publisher
        self.topics = {
            camera: (
                create(CameraInfo, f"{camera}/camera_info", 5),
                create(Image, f"{camera}/image_rect", 5),
                create(Detection2DArray, f"{camera}/detections", 10),
            )
            for camera in CAMERAS
        }
        publishers = [topic for topics in self.topics.values() for topic in topics]
        peer.spin_until(lambda: all(p.get_subscription_count() for p in publishers))

    def send(self, cameras=CAMERAS, **box) -> int:
        now = self.peer.now()
        for camera in cameras:
            self._publish(camera, 0, graph.camera_info_message(now))
        self.peer.spin(0.1)  # topics are not ordered among themselves
        box = {"x": 79.5, "y": 59.5} | box
        for camera in cameras:
            picture = graph.picture(CAMERAS.index(camera))
            self._publish(camera, 1, graph.image_message(now, picture))
            self._publish(camera, 2, graph.detections_message(now, graph.detection(**box)))
        return now

    def _publish(self, camera, topic, message) -> None:
        message.header.frame_id = f"{camera}_optical_frame"
        self.topics[camera][topic].publish(message)


def several(start, **parameters):
    values = {"cameras": list(CAMERAS), "fixed_frame": "base", "sync__max_age": 0.0}
    peer = start(wait_for_topics=False, **(values | parameters))
    return peer, Rig(peer)


def test_views_are_fused_in_the_search(start, mug_bundle):
    poses = [f"{camera}={pose}" for camera, pose in LOOK.items()]
    peer, rig = several(start, camera_poses=poses)
    rig.send()  # now both are known to be alive
    peer.spin_until(lambda: peer.distributions)
    sent = rig.send()
    peer.spin_until(lambda: stamp_of(peer.distributions[-1]) == sent)
    array_ = peer.distributions[-1]
    assert array_.header.frame_id == "base"
    (message,) = array_.distributions
    check_invariants(message)
    estimator = Estimator.from_pretrained(mug_bundle, "cpu", SETTINGS)
    left, right = np.eye(4), np.eye(4)
    left[2, 3], right[0, 3] = -0.3, 0.3
    right[:3, :3] = [[0, 0, -1], [0, 1, 0], [1, 0, 0]]
    from spyropose_ros.core.triangulation import triangulate

    info = estimator.bundle.object
    boxes = np.tile([49.5, 34.5, 109.5, 84.5], (2, 1))
    world = np.stack([left, right])
    center = triangulate(boxes, np.stack([K, K]), world, info.diameter, info.size_ratio)
    images = [graph.picture(0), graph.picture(1)]
    expected = estimator.estimate_multiview(images, [K, K], world, center)
    same_poses(message, expected)
    counts = peer.estimator.activity.counts()
    assert counts.processed >= 3 and counts.published == len(peer.distributions)


def test_any_subset_of_cameras_works(start):
    poses = [f"{camera}={pose}" for camera, pose in LOOK.items()]
    peer, rig = several(start, camera_poses=poses)
    for cameras in (("left",), ("right",), CAMERAS, ("left",)):
        sent = rig.send(cameras)
        peer.spin_until(
            lambda sent=sent: any(stamp_of(array_) == sent for array_ in peer.distributions)
        )
        assert len(peer.distributions[-1].distributions) == 1
    assert peer.estimator.activity.counts().matched == 5
    peer.spin_until(lambda: peer.estimator.activity.counts().processed == 5)
    assert not any(reason.drops_image for reason in peer.estimator.drops.counts())


def test_cameras_are_looked_up_in_tf_and_left_out_without(start):
    peer, rig = several(start)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = peer.node.create_publisher(TFMessage, "/tf_static", latched)
    rig.send()
    reason = Reason.NO_TRANSFORM
    peer.spin_until(lambda: peer.estimator.drops.counts().get(reason) == 2)
    assert peer.distributions == []
    transforms = []
    for camera, pose in LOOK.items():
        x, y, z, qx, qy, qz, qw = map(float, pose.split())
        transform = TransformStamped(child_frame_id=f"{camera}_optical_frame")
        transform.header.frame_id = "base"
        t, q = transform.transform.translation, transform.transform.rotation
        t.x, t.y, t.z = x, y, z
        q.x, q.y, q.z, q.w = qx, qy, qz, qw
        transforms.append(transform)
    static.publish(TFMessage(transforms=transforms[:1]))
    peer.spin(0.3)
    rig.send()
    peer.spin_until(lambda: peer.distributions)
    assert peer.estimator.drops.counts()[reason] == 3
    static.publish(TFMessage(transforms=transforms))
    peer.spin(0.3)
    sent = rig.send()
    peer.spin_until(lambda: stamp_of(peer.distributions[-1]) == sent)
    assert peer.estimator.drops.counts()[reason] == 3


# ---- time ------------------------------------------------------------------------------------


def test_the_temporal_filter_sharpens_and_reset_forgets(start):
    peer = start(temporal__enabled=True, sync__max_age=0.0)

    def entropy() -> float:
        sent = peer.send(graph.detection())
        peer.spin_until(
            lambda: stamp_of(peer.distributions[-1]) == sent if peer.distributions else 0
        )
        return peer.distributions[-1].distributions[0].entropy

    first = entropy()
    later = [entropy() for _ in range(3)]
    assert later[-1] < first - 0.1
    from std_srvs.srv import Trigger

    assert graph.call(peer.node, peer.spin_until, Trigger, "reset", Trigger.Request()).success
    assert entropy() == pytest.approx(first, abs=1e-4)


# ---- what the node runs with -----------------------------------------------------------------


def test_model_info_reaches_late_subscribers(start, mug_bundle):
    from std_msgs.msg import String

    peer = start(class_map=["41=mug"])
    received: list = []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    peer.node.create_subscription(String, "estimator/model_info", received.append, latched)
    peer.spin_until(lambda: received)
    info = json.loads(received[0].data)
    (mug,) = info["objects"]
    assert mug["class_ids"] == ["mug", "41"] and mug["depth"] == 3 and mug["device"] == "cpu"
    assert info["search"]["beam"] == 32
