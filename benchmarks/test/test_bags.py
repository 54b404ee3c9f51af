"""Errors of estimates in bags."""

import numpy as np
import pytest
from geometry_msgs.msg import Point, Pose, Quaternion
from scipy.spatial.transform import Rotation
from spyropose_ros.msg import PoseDistribution, PoseMode

from benchmarks.accuracy.bags import _row


@pytest.mark.parametrize(("name", "error"), [("can", 180.0), ("glue", 0.0)])
def test_errors_are_those_of_the_leading_mode_modulo_symmetry(name, error):
    truth = Rotation.from_rotvec([0.3, -0.2, 0.5])
    turned = truth * Rotation.from_rotvec([0, 0, np.pi])  # the glue looks the same
    position = Point(x=0.003, y=0.0, z=0.81)
    mode = PoseMode(mass=0.7)
    x, y, z, w = turned.as_quat().tolist()
    mode.pose = Pose(position=position, orientation=Quaternion(x=x, y=y, z=z, w=w))
    found = PoseDistribution(class_id=name, modes=[mode], entropy=-9.0)
    row = _row(found, truth.as_matrix(), np.array([0.0, 0, 0.8]))
    np.testing.assert_allclose(row, (error, 3.0, 10.0, 0.7, -9.0), atol=1e-3)
