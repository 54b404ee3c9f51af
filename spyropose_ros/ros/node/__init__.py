"""The nodes: subscriptions, life cycle, parameters, worker, diagnostics."""

from spyropose_ros.core import interrupts

interrupts.guard_start()
