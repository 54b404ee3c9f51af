"""The launch file starts the real node; RViz shows topics that the node publishes.

`launch` is not on PyPI: the tests that need it run where ROS 2 is installed.
"""

import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from geometry_msgs.msg import Vector3
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray

import graph
from spyropose_ros.ros.bags.bag_files import BagReader, BagWriter
from spyropose_ros.ros.node.rviz_frame import RvizFrame

ROOT = Path(__file__).parents[2]
LAUNCH_FILE = ROOT / "launch" / "estimator.launch.py"


def test_launch_file_declares_its_arguments_with_descriptions():
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 installation only")
    from launch.actions import DeclareLaunchArgument

    description = runpy.run_path(str(LAUNCH_FILE))["generate_launch_description"]()
    declared = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert {argument.name for argument in declared} == {
        "params_file",
        "model",
        "device",
        "image_topic",
        "camera_info_topic",
        "detections_topic",
        "detector",
        "bag",
        "bag_output",
        "namespace",
        "rviz",
        "rviz_frame",
        "use_sim_time",
        "log_level",
    }
    assert all(argument.description for argument in declared)


def test_launch_file_starts_the_node_with_its_arguments(mug_bundle, tmp_path):
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 installation only")
    import launch
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters:\n    search:\n      beam: 16\n")
    arguments = {
        "params_file": str(params),
        "model": mug_bundle,
        "device": "cpu",
        "namespace": "launched",
        "image_topic": "camera/image",
    }
    service = launch.LaunchService(noninteractive=True)
    service.include_launch_description(
        launch.actions.IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(LAUNCH_FILE)), launch_arguments=arguments.items()
        )
    )
    peer = graph.Peer("/launched", image_topic="camera/image")
    codes = []

    def use():
        try:
            peer.connect()
            peer.spin_until(lambda: (peer.send(graph.detection()), peer.distributions)[1], 90)
        finally:
            service.shutdown()

    user = threading.Thread(target=use)
    user.start()
    codes.append(service.run())
    user.join()
    peer.close()
    assert codes == [0]
    assert [d.class_id for d in peer.distributions[0].distributions] == ["mug"]


@pytest.mark.parametrize("detections_topic", ["", "detections"])
def test_launch_file_runs_a_detector_unless_a_topic_is_given(
    mug_bundle, tmp_path, photograph, detections_topic
):
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 installation only")
    import launch
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    params = tmp_path / "params.yaml"
    settings = {"class_map": ["tie=mug"], "detector.min_score": 0.3, "sync.max_age": 0.0}
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": settings}}))
    arguments = {
        "params_file": str(params),
        "model": mug_bundle,
        "detector": graph.COCO,
        "device": "cpu",
        "namespace": "detecting",
        "detections_topic": detections_topic,
    }
    service = launch.LaunchService(noninteractive=True)
    service.include_launch_description(
        launch.actions.IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(LAUNCH_FILE)), launch_arguments=arguments.items()
        )
    )
    peer = graph.Peer("/detecting")

    def send():
        now = peer.now()
        peer.camera_info.publish(graph.camera_info_message(now, photograph))
        peer.image.publish(graph.image_message(now, photograph))
        peer.detections.publish(graph.detections_message(now, graph.detection()))
        peer.spin(0.2)
        return peer.distributions

    def use():
        try:
            peer.spin_until(send, 90)
        finally:
            service.shutdown()

    user = threading.Thread(target=use)
    user.start()
    assert service.run() == 0
    user.join()
    peer.close()
    found = {d.class_id for d in peer.distributions[0].distributions}
    assert found == ({"mug"} if detections_topic else {"tie"})


def test_launch_file_runs_over_a_bag(mug_bundle, tmp_path):
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 installation only")
    import launch
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    now = 100 * graph.SECOND
    with BagWriter(tmp_path / "recorded", "mcap") as writer:
        writer.write("/camera_info", graph.camera_info_message(now), now)
        writer.write("/camera/image", graph.image_message(now), now)
        writer.write("/detections", graph.detections_message(now, graph.detection()), now + 1)
    arguments = {
        "bag": str(tmp_path / "recorded"),
        "bag_output": str(tmp_path / "estimated"),
        "model": mug_bundle,
        "device": "cpu",
        "image_topic": "/camera/image",
    }
    service = launch.LaunchService(noninteractive=True)
    service.include_launch_description(
        launch.actions.IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(LAUNCH_FILE)), launch_arguments=arguments.items()
        )
    )
    assert service.run() == 0
    with BagReader(tmp_path / "estimated") as reader:
        assert reader.count(["/estimator/distributions"]) == 1


LAUNCH = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

file, *pairs = sys.argv[1:]
service = LaunchService(noninteractive=True)
source = PythonLaunchDescriptionSource(file)
arguments = [pair.split(":=") for pair in pairs]
service.include_launch_description(IncludeLaunchDescription(source, launch_arguments=arguments))
raise SystemExit(service.run())
"""


def start_launch(name: str, **arguments) -> subprocess.Popen:
    """Runs a launch file as ros2 launch does."""
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 installation only")
    pairs = [f"{key}:={value}" for key, value in arguments.items()]
    command = [sys.executable, "-c", LAUNCH, str(ROOT / "launch" / name), *pairs]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def rviz2(monkeypatch, tmp_path):
    """A program in the place of RViz that writes its arguments and ends."""
    prefix, record = tmp_path / "prefix", tmp_path / "arguments"
    program = prefix / "lib" / "rviz2" / "rviz2"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho $@ > {record}\n")
    program.chmod(0o755)
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "rviz2").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}:{os.environ['AMENT_PREFIX_PATH']}")
    return record


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"rviz": "true"}, "sudo apt install ros-jazzy-rviz2"),
        ({"rviz": "maybe"}, '"rviz" provided value "maybe" is not valid'),
        ({"params_file": "/nowhere.yaml"}, "params_file:=/nowhere.yaml: no such file"),
        ({"params_file": "/nowhere.yaml", "rviz": "true"}, "no such file"),
        ({"log_level": "chatty"}, '"log_level" provided value "chatty" is not valid'),
    ],
)
def test_a_wrong_argument_ends_the_launch_before_anything_is_started(arguments, text, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    process = start_launch("estimator.launch.py", **arguments)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and text in output
    assert "process started" not in output


@pytest.mark.parametrize(
    "arguments, frame, prefix",
    [
        ({}, "estimator/view", "/estimator"),
        ({"namespace": "left/arm"}, "left/arm/estimator/view", "/left/arm/estimator"),
        ({"rviz_frame": "base_link"}, "base_link", "/estimator"),
    ],
)
def test_rviz_is_started_with_frame_and_topics(rviz2, arguments, frame, prefix):
    process = start_launch("rviz.launch.py", **arguments)
    while process.poll() is None and "rviz" not in (rviz2.read_text() if rviz2.exists() else ""):
        time.sleep(0.1)
    process.terminate()
    process.communicate(timeout=60)
    given = rviz2.read_text()
    assert f"-f {frame} " in given
    config = yaml.safe_load((ROOT / "config" / "spyropose.rviz").read_text())
    topics = {
        d["Topic"]["Value"] for d in config["Visualization Manager"]["Displays"] if "Topic" in d
    }
    for topic in topics:
        assert f"-r {topic}:={topic.replace('/estimator', prefix)}" in given


def test_the_packages_of_the_launch_files_are_dependencies():
    text = "".join(file.read_text() for file in (ROOT / "launch").glob("*.py"))
    used = set(re.findall(r'package="(\w+)"', text)) - {"spyropose_ros"}
    assert used == {"rviz2"}
    manifest = ElementTree.parse(ROOT / "package.xml").iter("exec_depend")
    assert used | {"ros2launch", "launch", "launch_ros"} <= {entry.text for entry in manifest}


def test_the_frame_for_rviz_ends_cleanly_however_often_it_is_interrupted(tmp_path):
    log = tmp_path / "log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "spyropose_ros.ros.node.rviz_frame"]
        process = subprocess.Popen(command, stderr=file)
    watcher = Node("watcher")
    try:
        while "rviz_frame" not in watcher.get_node_names():
            time.sleep(0.05)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)
    finally:
        process.kill()
        watcher.destroy_node()
    assert (process.wait(), log.read_text()) == (0, "")


@pytest.fixture
def frames():
    """Sends results with an object at x; returns how the frame for RViz is published then."""
    node, executor = RvizFrame(namespace="/left"), SingleThreadedExecutor()
    watcher, received = Node("watcher"), []
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    watcher.create_subscription(TFMessage, "/tf_static", received.append, latched)
    results = watcher.create_publisher(Detection3DArray, "/left/detections_3d", 10)
    executor.add_node(node)
    executor.add_node(watcher)

    def spin_until(condition, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not condition():
            executor.spin_once(timeout_sec=0.02)

    def send(x, frame="camera", size=0.1, answered=True):
        box = BoundingBox3D(size=Vector3(x=size, y=size, z=size))
        box.center.position.x = x
        header = Header(frame_id=frame)
        results.publish(Detection3DArray(header=header, detections=[Detection3D(bbox=box)]))
        return heard(answered)

    def heard(answered=True):
        spin_until(lambda: received and answered, 10 if answered else 0.3)
        parts = [transform for message in received for transform in message.transforms]
        received.clear()
        return [
            (t.header.frame_id, t.child_frame_id, t.transform.translation.x, t.transform.rotation.w)
            for t in parts
        ]

    try:
        spin_until(results.get_subscription_count, 10)
        yield send, heard
    finally:
        executor.shutdown()
        node.destroy_node()
        watcher.destroy_node()


def test_the_frame_for_rviz_is_there_at_once_and_follows_the_objects(frames):
    send, heard = frames
    view = "left/estimator/view"
    assert heard() == [(view, f"{view}_waits", 0.0, 1.0)]
    assert send(0.5) == [("camera", view, 0.5, 1.0)]
    assert send(0.55, answered=False) == []  # still in view
    assert send(0.7, size=0.0, answered=False) == []  # no mode: nowhere
    assert send(0.7) == [("camera", view, 0.7, 1.0)]
    assert send(0.7, frame="/base") == [("base", view, 0.7, 1.0)]
    assert send(0.9, frame="", answered=False) == []


def test_rviz_shows_topics_of_the_node(start):
    config = yaml.safe_load((ROOT / "config" / "spyropose.rviz").read_text())
    displays = config["Visualization Manager"]["Displays"]
    shown = {d["Topic"]["Value"]: d["Class"] for d in displays if "Topic" in d}
    node = start().estimator
    published = {
        name.removeprefix(node.get_namespace()): kinds
        for name, kinds in node.get_publisher_names_and_types_by_node(
            "estimator", node.get_namespace()
        )
    }
    assert {topic: published[topic] for topic in shown} == {
        "/estimator/markers": ["visualization_msgs/msg/MarkerArray"],
        "/estimator/poses": ["geometry_msgs/msg/PoseArray"],
        "/estimator/pose": ["geometry_msgs/msg/PoseWithCovarianceStamped"],
        "/estimator/overlay": ["sensor_msgs/msg/Image"],
        "/estimator/rotations": ["sensor_msgs/msg/Image"],
    }
    assert {kind.removeprefix("rviz_default_plugins/") for kind in shown.values()} == {
        "MarkerArray",
        "PoseArray",
        "PoseWithCovariance",
        "Image",
    }
    assert "rviz_default_plugins/TF" in {display["Class"] for display in displays}
    state = bytes.fromhex(config["Window Geometry"]["QMainWindow State"])
    for name in ("Displays", "Overlay", "Rotations"):  # Qt's: a name, then 1 for visible
        assert state.count(name.encode("utf-16-be") + b"\1") == 1
    for display in displays:  # as RViz saves them; "Filter size" only where it waits for TF
        assert {"Class", "Name", "Enabled", "Value"} <= set(display)
        filtered = display["Class"].rpartition("/")[2] in ("PoseArray", "PoseWithCovariance")
        assert ("Filter size" in display.get("Topic", {})) == filtered
