"""Checks what the estimator needs: ros2 run spyropose_ros check, or ./run check.

Looks at ROS 2, the topics and what arrives on them for some seconds, the calibration, the models
and their speed, with the parameters and remappings of the node: --ros-args --params-file FILE,
-p name:=value, -r image_rect:=/camera/image. Every line is a tick or what to do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Iterator

from spyropose_ros.core import interrupts
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.ros.node import checks
from spyropose_ros.ros.node.checks import Line

_DISCOVERY = 3.0  # seconds that publishers may take to be found
_PERIOD = 3.0  # seconds that messages are collected
_WHEELS = {"7": "jazzy", "9": "kilted"}  # by the major version of rclpy


def main(args: list[str] | None = None) -> int:
    """Print the lines of the check.

    Args:
        args: command line with ROS arguments; sys.argv by default.

    Returns:
        The exit code: 0 if every line is a tick; 130 after Ctrl-C.
    """
    args = sys.argv[1:] if args is None else args
    parser = argparse.ArgumentParser(prog="./run check", description=__doc__)
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, help="as for the node")
    parser.parse_args(args)
    good = True
    with interrupts.handled("check", interrupts.NOTHING_KEPT):
        for line in lines(args):
            print(line, flush=True)
            good &= line.good
    return 0 if good else 1


def lines(args: list[str]) -> Iterator[Line]:
    """Check one thing after the other.

    Args:
        args: ROS arguments of the command line.

    Yields:
        The lines.
    """
    import rclpy
    from rclpy.node import Node
    from rclpy.signals import SignalHandlerOptions

    from spyropose_ros.ros.node.listening import Listener
    from spyropose_ros.ros.node.parameter_server import ParameterServer
    from spyropose_ros.ros.node.remapping import is_remapped
    from spyropose_ros.ros.pipeline.detectors import choose_detectors
    from spyropose_ros.ros.pipeline.objects import read_objects
    from spyropose_ros.ros.pipeline.parameters import Parameters

    middleware = rclpy.get_rmw_implementation_identifier()
    yield from checks.environment(_distribution(), middleware, os.environ)
    node = None
    try:
        # Python's own handlers end the check, and what the shell had them ignore stays ignored
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        # named as the node, so that its sections of params files and its remappings apply
        node = Node("estimator", enable_rosout=False, start_parameter_services=False)
        parameters = ParameterServer(node, Parameters(), lambda _: None, lambda: False).current
        detectors = choose_detectors(parameters, lambda name: is_remapped(node, name))
        listener = Listener(node, parameters, bool(detectors))
        yield from listener.topics(_DISCOVERY)
        yield from listener.messages(_PERIOD)
        objects = read_objects(parameters)
        if detections := listener.detections:
            yield checks.classes(detections, objects.classes)
    except (SpyroposeError, ValueError, RuntimeError, OSError) as error:
        yield Line(False, " ".join(str(error).split()))
        return
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    line, models = checks.model(parameters, lambda text: None)
    yield line
    if models is not None:
        yield checks.speed(models)
        if detectors:
            yield checks.detector(detectors, models)


def _distribution() -> str:
    """Return the name of the sourced ROS 2, or of the wheels."""
    if "ROS_DISTRO" in os.environ:
        return os.environ["ROS_DISTRO"]
    version = importlib.metadata.version("ros-rclpy")
    return _WHEELS.get(version.partition(".")[0], f"with rclpy {version}")


if __name__ == "__main__":
    raise SystemExit(main())
