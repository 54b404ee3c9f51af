"""The demo: a camera, a detector and a summary around the estimator node, each its own process."""

from spyropose_ros.core import interrupts

interrupts.guard_start()
