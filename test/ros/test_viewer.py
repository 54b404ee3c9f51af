"""The viewer on a real graph, seen by a real browser; bags and photographs in it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from spyropose_ros.msg import PoseDistributionArray
from std_msgs.msg import Header, String

import browser
import graph
from result_tools import MESH, MODELS, SHOWN, model_info, result_of, two_sided
from spyropose_ros.core.errors import DataError, SpyroposeError
from spyropose_ros.ros.bags.bag_files import BagError, BagWriter
from spyropose_ros.ros.messages.result_messages import messages
from spyropose_ros.ros.messages.tf_poses import TransformChooser
from spyropose_ros.ros.node.adaptive_subscription import LATCHED
from spyropose_ros.ros.pipeline.images import image_message
from spyropose_ros.viewer.node import ViewerNode
from spyropose_ros.viewer.viewer import Viewer

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds: software rendering on cores that others use
PROGRAM = browser.find()
seen = pytest.mark.skipif(
    PROGRAM is None, reason=f"no browser: none of {', '.join(browser.NAMES)} is on the PATH"
)


def distributions(header):
    result = result_of(two_sided(0))
    made = messages(result, MODELS, SHOWN, TransformChooser(), {"~/distributions"}.__contains__)
    message = dict(made)["~/distributions"]
    message.header = message.distributions[0].header = header
    return message


GREY = np.full((120, 160, 3), 128, np.uint8)


class Estimator:
    """What an estimator and its cameras publish: by camera, one image again and again."""

    def __init__(self, node, images):
        self.node, self.images = node, images
        self.publishers = {
            camera: (
                node.create_publisher(Image, f"{camera}image_rect", 1),
                node.create_publisher(CameraInfo, f"{camera}camera_info", 1),
            )
            for camera in images
        }
        self.distributions = node.create_publisher(
            PoseDistributionArray, "estimator/distributions", 1
        )
        self.model_info = node.create_publisher(String, "estimator/model_info", LATCHED)
        self.model_info.publish(model_info(MESH.as_uri()))
        node.create_timer(0.2, self.publish)
        self.message = distributions(Header())

    def publish(self):
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id="camera")
        for camera, (image, info) in self.publishers.items():
            info.publish(graph.stamp(graph.camera_info_message(), 1))
            image.publish(image_message(header, self.images[camera]))
        self.message.header = header
        self.distributions.publish(self.message)


@pytest.fixture
def spin():
    """Makes a viewer's node and an estimator, and spins both."""
    executor, nodes = SingleThreadedExecutor(), []

    def make(images=None, **parameters):
        node = ViewerNode(
            namespace="/view", parameter_overrides=graph.overrides(port=8200, **parameters)
        )
        peer = Node("estimator", namespace="/view")
        nodes.extend((node, peer))
        for each in nodes:
            executor.add_node(each)

        def until(condition, timeout=30.0):
            deadline = time.monotonic() + timeout
            while not condition():
                assert time.monotonic() < deadline, "nothing happened in time"
                executor.spin_once(timeout_sec=0.05)

        return node, Estimator(peer, images or {"": GREY}), until

    yield make
    executor.shutdown()
    for node in nodes:
        if isinstance(node, ViewerNode):
            node.stop()
        node.destroy_node()


def mesh_is_known(viewer):
    moments = viewer.history.all()
    return bool(moments) and moments[-1].objects[0].cloud.mesh is not None


def colours(shot, panel=400):
    """Number of pixels in the colours of the triads' axes and of the mesh, left of the panel."""
    scene = shot[:-110, 60 : shot.shape[1] - panel].astype(int)
    red, green, blue = scene[..., 0], scene[..., 1], scene[..., 2]
    masks = {
        "x": (red > green + 70) & (red > blue + 70),
        "y": (green > red + 40) & (green > blue + 40),
        "mesh": (blue > red + 60) & (green > red + 30),
    }
    return {name: int(mask.sum()) for name, mask in masks.items()}


@seen
@pytest.mark.timeout(3 * PATIENCE)
def test_a_browser_shows_mesh_and_triads(spin, tmp_path):
    """Also: nobody connected, no subscriptions; a bad message is survived; the panel works."""
    node, estimator, until = spin()
    count = estimator.distributions.get_subscription_count
    until(lambda: node.viewer is not None)
    soon = time.monotonic() + 1.0
    until(lambda: time.monotonic() > soon)
    assert count() == 0 and node.viewer.drawn == 0
    with browser.Browser(PROGRAM, node.viewer.url, tmp_path, (900, 600), PATIENCE) as page:
        until(lambda: mesh_is_known(node.viewer), PATIENCE)
        assert count() == 1
        drawn = node.viewer.drawn
        until(lambda: node.viewer.drawn > drawn + 1, PATIENCE)
        node.viewer._panel.step(0)  # pause, so that the picture stands still
        for _ in range(3):  # it fades in
            shot = page.screenshot()
        Picture.fromarray(shot).save(tmp_path / "viewer.png")
        found = colours(shot)
        assert found["mesh"] > 2000 and found["x"] > 100 and found["y"] > 100, found
        text = page.evaluate("document.body.innerText")
        assert "Rotations of cup" in text and "entropy" in text

        good, estimator.message = estimator.message, distributions(Header())
        estimator.message.distributions[0].weights.pop()
        until(lambda: any("not shown: cup has 50 poses" in t for t in node._said), PATIENCE)
        estimator.message = good
        drawn = node.viewer.history.span()[1]
        until(lambda: node.viewer.history.span()[1] > drawn, PATIENCE)
    until(lambda: count() == 0, PATIENCE)


def plain(colour):
    return np.broadcast_to(np.array(colour, np.uint8), GREY.shape).copy()


@seen
@pytest.mark.timeout(3 * PATIENCE)
def test_a_browser_shows_two_cameras_with_their_live_images(spin, tmp_path):
    images = {"left/": plain((200, 90, 200)), "right/": plain((230, 160, 60))}
    node, estimator, until = spin(
        images,
        cameras=["left", "right"],
        camera_poses=["left=-0.2 0 0 0 0.173 0 0.985", "right=0.2 0 0 0 -0.173 0 0.985"],
    )
    until(lambda: node.viewer is not None)
    with browser.Browser(PROGRAM, node.viewer.url, tmp_path, (900, 600), PATIENCE) as page:
        until(lambda: mesh_is_known(node.viewer), PATIENCE)

        def sees(**found):
            """Whether so many pixels become of a colour, while the cameras go on."""
            moment = node.viewer.history.span()[1] + 1
            until(lambda: node.viewer.history.span()[1] > moment, PATIENCE)
            shot = page.screenshot()
            Picture.fromarray(shot).save(tmp_path / "viewer.png")
            hue = shot[:, :500].astype(int) - shot[:, :500].mean(-1, keepdims=True)
            counts = {}
            for name, colour in found.items():
                wanted = np.array(colour) - np.mean(colour)
                counts[name] = int((np.linalg.norm(hue - wanted, axis=-1) < 25).sum())
            return min(counts.values()) > 500

        until(lambda: node.viewer.drawn, PATIENCE)
        assert list(node.viewer.history.all()[-1].cameras) == ["left", "right"]
        estimator.images["right/"] = plain((70, 200, 90))
        until(lambda: sees(left=(200, 90, 200), right=(70, 200, 90)), PATIENCE)


def test_the_life_cycle_opens_and_closes_the_port(spin):
    node, _, _ = spin(autostart=False)
    assert node.viewer is None
    node.trigger_configure()
    url = node.viewer.url
    node.trigger_activate()
    node.trigger_deactivate()
    assert node.viewer.url == url
    node.trigger_cleanup()
    assert node.viewer is None


@pytest.mark.parametrize("autostart", [True, False])
def test_a_foreign_address_is_refused_with_the_remedy(spin, autostart):
    if autostart:
        with pytest.raises(SpyroposeError, match="give 127.0.0.1"):
            spin(host="203.0.113.1")
    else:
        node, _, _ = spin(host="203.0.113.1", autostart=False)
        node.trigger_configure()
        assert node.viewer is None


@seen
@pytest.mark.timeout(2 * PATIENCE)
def test_the_page_of_a_distribution_needs_no_server(tmp_path):
    page = tmp_path / "page.html"
    two_sided(0).show(mass=0.1, path=page)
    with browser.Browser(PROGRAM, page.as_uri(), tmp_path, (700, 450), PATIENCE) as shown:
        deadline = time.monotonic() + PATIENCE
        while (found := colours(shown.screenshot(), panel=0))["x"] < 50 or found["y"] < 50:
            assert time.monotonic() < deadline, found


# ---- bags and photographs ------------------------------------------------------------------------


class Watched(Viewer):
    """As if somebody watched."""

    watched = property(lambda self: True)


@pytest.fixture
def viewer():
    viewer = Watched(port=0, say=pytest.fail)
    yield viewer
    viewer.close()


def write_bag(path, *topics):
    with BagWriter(path) as writer:
        for second in (1, 2):
            header = Header(frame_id="camera")
            header.stamp.sec = second
            info = graph.stamp(graph.camera_info_message(), second * graph.SECOND)
            made = {
                "/robot/estimator/model_info": model_info(MESH.as_uri()),
                "/camera/camera_info": info,
                "/camera/image_rect": image_message(header, graph.picture()),
                "/robot/estimator/distributions": distributions(header),
                "/other/distributions": distributions(header),
            }
            for topic in topics:
                writer.write(topic, made[topic], second * 10**7)


EVERYTHING = (
    *("/robot/estimator/model_info", "/camera/camera_info", "/camera/image_rect"),
    "/robot/estimator/distributions",
)


def test_a_bag_is_shown_with_its_images_and_meshes(viewer, tmp_path):
    from spyropose_ros.viewer.recording import play

    write_bag(tmp_path / "bag", *EVERYTHING)
    said = []
    play(tmp_path / "bag", viewer, said.append)
    moments = viewer.history.all()
    assert [moment.time for moment in moments] == [1.0, 2.0]
    for moment in moments:
        assert moment.objects[0].cloud.mesh is not None
        assert list(moment.cameras) == ["camera"]
    assert said[-1].startswith("2 moments")


@pytest.mark.parametrize(
    "topics, text",
    [
        (["/camera/image_rect"], "run ./run bag .* --all"),
        ([*EVERYTHING, "/other/distributions"], "several estimators"),
    ],
)
def test_a_bag_that_cannot_be_shown_says_what_to_do(viewer, tmp_path, topics, text):
    from spyropose_ros.viewer.recording import play

    write_bag(tmp_path / "bag", *topics)
    with pytest.raises(BagError, match=text):
        play(tmp_path / "bag", viewer, print)


def test_photographs_are_estimated_and_shown(viewer, monkeypatch):
    from spyropose_ros.viewer.__main__ import _parser
    from spyropose_ros.viewer.estimates import show_estimates

    monkeypatch.chdir(ROOT)
    words = "models/demo_mug docs/mug.jpg --fov 56 --device cpu --box 330 190 470 330"
    said = []
    show_estimates(_parser().parse_args(words.split()), viewer, said.append)
    (moment,) = viewer.history.all()
    assert [each.name for each in moment.objects] == ["mug"] and moment.inference > 0
    assert moment.objects[0].cloud.mesh is not None and "docs/mug.jpg: 1 found" in said


def test_images_of_which_none_can_be_read_are_an_error(viewer, tmp_path):
    from spyropose_ros.viewer.__main__ import _parser
    from spyropose_ros.viewer.estimates import show_estimates

    image = tmp_path / "image.png"
    image.write_bytes(b"nothing")
    words = f"{ROOT}/models/demo_mug {image} --fov 56 --device cpu --box 1 1 9 9"
    said = []
    with pytest.raises(DataError, match="no image could be shown"):
        show_estimates(_parser().parse_args(words.split()), viewer, said.append)
    assert any("cannot be read as an image" in text for text in said)


def test_the_command_serves_a_topic_until_it_is_interrupted(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "spyropose_ros.viewer", "/robot/estimator/distributions"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", "8300"], stdout=file, stderr=file, env=os.environ
        )
    deadline = time.monotonic() + PATIENCE
    while "open http://127.0.0.1:" not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
