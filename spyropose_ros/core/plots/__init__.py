"""Figures of pose distributions: rotations on a map of the sphere, and poses over the image."""

from spyropose_ros.core.plots._close_up import close_up
from spyropose_ros.core.plots._ghosts import Ghosts, ghosts, mode_ghosts
from spyropose_ros.core.plots._overlay import overlay
from spyropose_ros.core.plots._rotation_plot import rotation_map, rotation_plot

__all__ = [
    "Ghosts",
    "close_up",
    "ghosts",
    "mode_ghosts",
    "overlay",
    "rotation_map",
    "rotation_plot",
]
