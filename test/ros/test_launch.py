"""The launch file starts the real node; RViz shows topics that the node publishes.

`launch` is not on PyPI: the tests that need it run where ROS 2 is installed.
"""

import runpy
import threading
from pathlib import Path

import pytest
import yaml

import graph
from spyropose_ros.ros.bags.bag_files import BagReader, BagWriter

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
        "bag",
        "bag_output",
        "namespace",
        "rviz",
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
    for display in displays:  # as RViz saves them; "Filter size" only where it waits for TF
        assert {"Class", "Name", "Enabled", "Value"} <= set(display)
        filtered = display["Class"].rpartition("/")[2] in ("PoseArray", "PoseWithCovariance")
        assert ("Filter size" in display.get("Topic", {})) == filtered
