"""Starts the estimator node; without arguments it runs the shipped demo model."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("spyropose_ros"))

# name, default, what it is for
ARGUMENTS = (
    ("params_file", str(SHARE / "config" / "estimator.yaml"), "parameters of the node"),
    ("model", "", "model bundle: folder or hub id; empty leaves it to params_file"),
    ("device", "", "auto, cpu, cuda or cuda:N; empty leaves it to params_file"),
    ("image_topic", "image_rect", "rectified image"),
    ("camera_info_topic", "camera_info", "calibration of the image"),
    ("detections_topic", "detections", "vision_msgs/Detection2DArray of the image"),
    ("bag", "", "recorded bag to run over instead of live topics; empty for live topics"),
    ("bag_output", "", "folder of the bag with the results; empty appends _estimated"),
    ("namespace", "", "namespace of the node"),
    ("rviz", "false", "whether RViz is started as well: true or false"),
    ("use_sim_time", "false", "whether time comes from /clock: true or false"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)


def start_estimator(context: LaunchContext) -> list[Node]:
    """Make the node from the launch arguments; empty ones override nothing."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    overrides = {"use_sim_time": given["use_sim_time"].lower() in ("true", "1")}
    if given["model"]:
        overrides["objects"] = [given["model"]]
    if given["device"]:
        overrides["device"] = given["device"]
    remapped = ("image_rect", "camera_info", "detections")
    logger = ".".join(filter(None, [*given["namespace"].split("/"), "estimator"]))
    if given["bag"]:
        output = ["--output", given["bag_output"]] if given["bag_output"] else []
        process = {"executable": "bag", "arguments": [given["bag"], *output], "on_exit": Shutdown()}
    else:
        arguments = ["--ros-args", "--log-level", f"{logger}:={given['log_level']}"]
        process = {"executable": "estimator", "arguments": arguments}
    return [
        Node(
            package="spyropose_ros",
            name="estimator",
            namespace=given["namespace"],
            parameters=[given["params_file"], overrides],
            remappings=[(name, given[f"{name.removesuffix('_rect')}_topic"]) for name in remapped]
            + [("image_rect/compressed", f"{given['image_topic']}/compressed")],
            output="screen",
            emulate_tty=True,
            **process,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the nodes."""
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(SHARE / "config" / "spyropose.rviz")],
        parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
        condition=IfCondition(LaunchConfiguration("rviz")),
        output="log",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(name, default_value=default, description=description)
            for name, default, description in ARGUMENTS
        ]
        + [OpaqueFunction(function=start_estimator), rviz]
    )
