"""Distributions in a browser: the node `viewer` and `./run view`."""

from spyropose_ros.core import interrupts

interrupts.guard_start()
