"""The launch file starts the real node; RViz shows topics that the node publishes.

`launch` is not on PyPI: the tests that need it run where ROS 2 is installed.
"""

import runpy
import threading
from pathlib import Path

import pytest
import yaml

import graph

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


def test_rviz_shows_topics_of_the_node(start):
    config = yaml.safe_load((ROOT / "config" / "spyropose.rviz").read_text())
    displays = config["Visualization Manager"]["Displays"]
    shown = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    node = start().estimator
    published = {
        name.removeprefix(node.get_namespace())
        for name, _ in node.get_publisher_names_and_types_by_node("estimator", node.get_namespace())
    }
    assert len(shown) == 4
    assert shown <= published
