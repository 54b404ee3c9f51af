"""Pose distributions on SE(3) from camera images: the core, the ROS 2 node and the demo.

The generated messages live in the install tree of the workspace. Extending the search path joins
them to this package, so that `spyropose_ros.msg` is found also where Python code comes from a
source tree or from pip.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
