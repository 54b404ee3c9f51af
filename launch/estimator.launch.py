"""Starts the estimator node; without arguments it runs the shipped demo model."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
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
    (
        "detections_topic",
        "",
        "vision_msgs/Detection2DArray of the image; empty: the detector, or the topic detections",
    ),
    (
        "detector",
        "",
        "detector that runs in the node: folder or hub id; empty leaves it to params_file, whose "
        "default is the one in the model's bundle",
    ),
    ("bag", "", "recorded bag to run over instead of live topics; empty for live topics"),
    ("bag_output", "", "folder of the bag with the results; empty appends _estimated"),
    ("namespace", "", "namespace of the node"),
    ("rviz", "false", "whether RViz is started as well: true or false"),
    ("rviz_frame", "", "TF frame in which RViz draws; empty takes the frame of the results"),
    ("use_sim_time", "false", "whether time comes from /clock: true or false"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)
CHOICES = {
    "rviz": ("true", "false", "True", "False"),
    "use_sim_time": ("true", "false", "True", "False"),
    "log_level": ("debug", "info", "warn", "error", "fatal"),
}


def start_estimator(context: LaunchContext) -> list[Action]:
    """Make the node from the launch arguments; empty ones override nothing.

    An exception leaves behind what already runs, so RViz, which may be missing, comes first.
    """
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    if not Path(given["params_file"]).is_file():  # launch_ros would start the node without it
        raise RuntimeError(f"params_file:={given['params_file']}: no such file")
    overrides = {"use_sim_time": given["use_sim_time"].lower() == "true"}
    if given["model"]:
        overrides["objects"] = [given["model"]]
    if given["device"]:
        overrides["device"] = given["device"]
    if given["detector"]:
        overrides["detector"] = given["detector"]
    remapped = ["image_rect", "camera_info"]
    if given["detections_topic"]:
        overrides["detector"] = "topic"  # a remapping to the same name could not be told from none
        remapped.append("detections")
    logger = ".".join(filter(None, [*given["namespace"].split("/"), "estimator"]))
    if given["bag"]:
        output = ["--output", given["bag_output"]] if given["bag_output"] else []
        process = {"executable": "bag", "arguments": [given["bag"], *output], "on_exit": Shutdown()}
    else:
        arguments = ["--ros-args", "--log-level", f"{logger}:={given['log_level']}"]
        process = {"executable": "estimator", "arguments": arguments}
    rviz = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "rviz.launch.py")),
        launch_arguments=[
            (name, given[name]) for name in ("namespace", "rviz_frame", "use_sim_time")
        ],
        condition=IfCondition(given["rviz"]),
    )
    return [
        rviz,
        Node(
            package="spyropose_ros",
            name="estimator",
            namespace=given["namespace"],
            parameters=[given["params_file"], overrides],
            remappings=[(name, given[f"{name.removesuffix('_rect')}_topic"]) for name in remapped]
            + [("image_rect/compressed", f"{given['image_topic']}/compressed")],
            output="screen",
            emulate_tty=True,
            sigterm_timeout="10",  # seconds from Ctrl-C to SIGTERM; by default 5
            **process,
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and what they start."""
    arguments = [
        DeclareLaunchArgument(
            name, default_value=default, description=description, choices=CHOICES.get(name)
        )
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_estimator)])
