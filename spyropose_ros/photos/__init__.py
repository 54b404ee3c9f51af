"""Photographs and videos without ROS: reading them, their cameras, and `./run estimate`."""

from spyropose_ros.core import interrupts

interrupts.guard_start()
