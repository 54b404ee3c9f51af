"""Figures of pose distributions: rotations on a map of the sphere, and poses over the image."""

from spyropose_ros.core.plots._overlay import overlay
from spyropose_ros.core.plots._rotation_plot import rotation_plot

__all__ = ["overlay", "rotation_plot"]
