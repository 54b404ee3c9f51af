"""The pipeline over a recorded bag, without a graph."""

from spyropose_ros.core import interrupts

interrupts.guard_start()
