"""Starts the demo: a camera, the estimator with its detector, and a summary that ends it.

The same as ./run demo for ROS 2 installations. The results go to the folder `output`.
"""

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

from spyropose_ros.demo.plan import Model, parameters, share_folder, shipped_model

# name, default, what it is for
ARGUMENTS = (
    ("demo", "mug", "mug: a rendered, rotating mug; lmo: the real LM-O photographs"),
    ("model", "", "folder of another model bundle; empty takes the one of the demo"),
    ("device", "auto", "where the model runs: auto, cpu, cuda or cuda:N"),
    ("frames", "0", "number of frames; 0 takes 60 renderings, or all photographs"),
    (
        "detector",
        "own",
        "own (made for the model), annotations (true boxes with errors), or a folder",
    ),
    ("output", "", "folder for the results; empty: demo_output/ and the demo's name"),
    ("data", "data", "folder of the data sets, from: python -m training.download lmo"),
    ("rviz", "false", "whether RViz is started as well: true or false"),
)
CHOICES = {"demo": ("mug", "lmo"), "rviz": ("true", "false", "True", "False")}


def start_demo(context: LaunchContext) -> list[Action]:
    """Make the nodes from the launch arguments.

    An exception leaves behind what already runs, so RViz, which may be missing, comes first.
    """
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    model = Model.read(given["model"] or shipped_model(given["demo"]))
    settings = parameters(
        model,
        int(given["frames"]),
        given["device"],
        given["output"],
        given["data"],
        given["detector"],
    )
    rviz = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share_folder() / "launch" / "rviz.launch.py")),
        condition=IfCondition(given["rviz"]),
    )
    nodes = [
        Node(
            package="spyropose_ros",
            executable=executable,
            name=executable,
            parameters=[values],
            **(
                # prints the table; its verdict ends the demo
                {"output": "screen", "output_format": "{line}", "on_exit": Shutdown()}
                if executable == "demo_summary"
                else {"output": {"both": "log"}}  # "log" would still show errors in the table
            ),
            sigterm_timeout="10",  # seconds from Ctrl-C to SIGTERM; by default 5
        )
        for executable, values in settings.items()
    ]
    return [rviz, *nodes]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and what they start."""
    arguments = [
        DeclareLaunchArgument(
            name, default_value=default, description=description, choices=CHOICES.get(name)
        )
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_demo)])
