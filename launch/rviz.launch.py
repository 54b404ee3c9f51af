"""Starts RViz for an estimator that runs here or on another machine."""

import os
from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("spyropose_ros"))
TOPICS = ("markers", "poses", "pose", "overlay", "rotations")  # of config/spyropose.rviz

# name, default, what it is for
ARGUMENTS = (
    ("namespace", "", "namespace of the estimator"),
    ("rviz_frame", "", "TF frame in which RViz draws; empty takes the frame of the results"),
    ("use_sim_time", "false", "whether time comes from /clock: true or false"),
)


def start_rviz(context: LaunchContext) -> list[Node]:
    """Make RViz, and without a given frame the node that follows the frame of the results."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        distribution = os.environ.get("ROS_DISTRO", "<distro>")
        raise RuntimeError(
            "RViz is not installed, nothing was started: sudo apt install "
            f"ros-{distribution}-rviz2, or leave out rviz:=true"
        ) from None
    time = {"use_sim_time": given["use_sim_time"].lower() == "true"}
    prefix = "/".join(["", *filter(None, given["namespace"].split("/")), "estimator"])
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=[
            *("-d", str(SHARE / "config" / "spyropose.rviz")),
            *("-f", given["rviz_frame"] or f"{prefix[1:]}/view"),
        ],
        parameters=[time],
        remappings=[(f"/estimator/{topic}", f"{prefix}/{topic}") for topic in TOPICS],
        output="log",
    )
    follower = Node(
        package="spyropose_ros",
        executable="rviz_frame",
        namespace=given["namespace"],
        parameters=[time],
        output="log",
    )
    return [rviz] if given["rviz_frame"] else [rviz, follower]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the nodes."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_rviz)])
