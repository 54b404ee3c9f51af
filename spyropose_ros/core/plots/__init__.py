"""Figures of pose distributions: on a map of the sphere, over the image, and in 3D."""

from spyropose_ros.core.plots._close_up import close_up
from spyropose_ros.core.plots._ghosts import Ghosts, ghosts, mode_ghosts
from spyropose_ros.core.plots._overlay import overlay
from spyropose_ros.core.plots._rotation_plot import rotation_map, rotation_plot
from spyropose_ros.core.plots._show import show

__all__ = [
    "Ghosts",
    "close_up",
    "ghosts",
    "mode_ghosts",
    "overlay",
    "rotation_map",
    "rotation_plot",
    "show",
]
