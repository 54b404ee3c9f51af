"""How the mug moves in the demo."""

import numpy as np
from scipy.spatial.transform import Rotation

from spyropose_ros.demo.stage import CAMERA_FROM_WORLD, CAMERA_OFFSET

_REVOLUTIONS = 2
_LINGER = 0.65  # how much the rotation slows while the handle is behind the mug, below 1


def mug_pose(progress: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the pose of the mug along its smooth, closed path.

    It rotates about its own axis, so that the handle disappears behind it and returns, while it
    rocks and flies through the middle of the view.

    Args:
        progress: From 0 (start) to 1 (start again).

    Returns:
        Rotation [3, 3] and translation [3] in metres, object to the camera's optical frame.
    """
    phase = 2 * np.pi * progress
    angle = _REVOLUTIONS * phase + np.pi  # 0 puts the handle straight behind; it starts in front
    angle -= _LINGER * np.sin(angle)
    yaw = Rotation.from_euler("z", angle + np.pi / 2)  # the handle points along the mug's x axis
    rocking = Rotation.from_rotvec(np.radians([11 * np.sin(3 * phase), 14 * np.sin(phase + 1), 0]))
    position = np.array(
        [0.11 * np.sin(phase), 0.07 * np.cos(phase) - 0.03, 0.05 + 0.025 * np.cos(2 * phase + 0.6)]
    )
    rotation = CAMERA_FROM_WORLD @ (rocking * yaw).as_matrix()
    return rotation, CAMERA_FROM_WORLD @ position + CAMERA_OFFSET
