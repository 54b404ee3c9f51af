"""Offline work: data sets, training, evaluation. Nothing else of the project imports it."""

from spyropose_ros.core import interrupts

interrupts.guard_start()
