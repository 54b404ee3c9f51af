"""Intrinsics from CameraInfo: P of the rectified image, and a named reason for what is unusable."""

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from spyropose_ros.ros.camera_info import intrinsics
from spyropose_ros.ros.diagnostics import BadInput, Reason

P = [500.0, 0.0, 319.5, 0.0, 0.0, 510.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0]
K = [520.0, 0.0, 321.0, 0.0, 530.0, 241.0, 0.0, 0.0, 1.0]


def camera_info(**changes):
    message = CameraInfo(width=640, height=480, p=P, k=K)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_p_describes_the_rectified_image():
    matrix, warning = intrinsics(camera_info(), 640, 480)
    np.testing.assert_array_equal(matrix, [[500, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])
    assert warning is None


def test_zero_p_falls_back_to_k_with_a_warning():
    matrix, warning = intrinsics(camera_info(p=[0.0] * 12), 640, 480)
    np.testing.assert_array_equal(matrix.ravel(), K)
    assert "zero P" in warning


def test_region_of_interest_and_binning_change_the_intrinsics():
    message = camera_info(binning_x=2, binning_y=2)
    message.roi.x_offset, message.roi.y_offset = 100, 40
    message.roi.width, message.roi.height = 320, 240
    matrix, _ = intrinsics(message, 160, 120)
    np.testing.assert_allclose(
        matrix, [[250, 0, (319.5 - 100) / 2], [0, 255, (239.5 - 40) / 2], [0, 0, 1]]
    )


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"width": 1920, "height": 1080}, "1920x1080 .* 640x480"),
        ({"width": 0, "height": 0}, "0x0"),
        ({"p": [0.0] * 12, "k": [0.0] * 9}, "zero K and P"),
        ({"p": [float("nan"), *P[1:]]}, "P that are not finite"),
        ({"p": [float("inf"), *P[1:]]}, "P that are not finite"),
        ({"p": [0.0] * 12, "k": [float("nan"), *K[1:]]}, "K that are not finite"),
        ({"p": [0.0, *P[1:]]}, "fx = 0 in P"),
        ({"p": [-500.0, *P[1:]]}, "fx = -500"),
        ({"p": [*P[:5], 0.0, *P[6:]]}, "fy = 0"),
        ({"p": [*P[:2], 0.0, *P[3:]]}, "cx = 0"),
    ],
)
def test_unusable_calibrations_are_refused_by_name(changes, text):
    with pytest.raises(BadInput, match=text) as caught:
        intrinsics(camera_info(**changes), 640, 480)
    assert caught.value.reason is Reason.BAD_CAMERA_INFO
