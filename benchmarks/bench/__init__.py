"""Where the time goes, and what the same distribution costs by other means: `./run bench`."""

from spyropose_ros.core import interrupts

interrupts.guard_start()
