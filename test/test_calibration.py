"""Calibration from CameraInfo: P and K, rectification, and a named reason for what is unusable."""

import math
import re

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo

from spyropose_ros.core.errors import CalibrationError, InputError
from spyropose_ros.core.lens import calibration
from spyropose_ros.core.lens.calibration import calibrate

WIDTH, HEIGHT = 640, 480
P = [500.0, 0.0, 319.5, 0.0, 0.0, 510.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0]
K = [520.0, 0.0, 321.0, 0.0, 530.0, 241.0, 0.0, 0.0, 1.0]
PLUMB_BOB = [-0.3, 0.1, 0.001, -0.002, -0.01]
RATIONAL = [0.4, -0.2, 0.001, -0.002, 0.01, 0.7, -0.1, 0.02]
EQUIDISTANT = [-0.02, 0.01, -0.003, 0.001]
LENSES = {
    "plumb_bob": PLUMB_BOB,
    "rational_polynomial": RATIONAL,
    "equidistant": EQUIDISTANT,
}
TURN = Rotation.from_rotvec([0.02, -0.03, 0.01])


def camera_info(**changes):
    message = CameraInfo(width=WIDTH, height=HEIGHT, p=P, k=K)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def raw_info(model="plumb_bob", **changes):
    """Calibration of a camera with a lens and a rectification that turns it."""
    rotation = TURN.as_matrix().ravel()
    changes = {"d": LENSES.get(model, []), "r": rotation} | changes
    return camera_info(**{"distortion_model": model} | changes)


def raw_pixels(points, model):
    """Pixels [N, 2] of points [N, 3] in the raw camera frame, by the formulas of the models."""
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    r2 = x * x + y * y
    if model == "equidistant":
        r = np.sqrt(r2)
        theta = np.arctan(r)
        powers = theta[:, None] ** [2, 4, 6, 8]
        scale = theta * (1 + powers @ EQUIDISTANT) / np.maximum(r, 1e-12)
        x, y = x * scale, y * scale
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = (LENSES[model] + [0.0] * 3)[:8]
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return np.stack((K[0] * x + K[2], K[4] * y + K[5]), -1)


def pinhole(matrix, points):
    pixels = points @ np.asarray(matrix).T
    return pixels[:, :2] / pixels[:, 2:]


# ---- rectified images ---------------------------------------------------------------------------


def test_p_describes_the_rectified_image():
    result = calibrate(camera_info(), WIDTH, HEIGHT)
    np.testing.assert_array_equal(result.K, [[500, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])
    assert result.warnings == ()


def test_rectified_images_and_boxes_stay_as_they_are():
    result = calibrate(raw_info(), WIDTH, HEIGHT)
    image, depth = np.ones((HEIGHT, WIDTH, 3), np.uint8), np.ones((HEIGHT, WIDTH), np.float32)
    assert result.rectify(image) is image
    assert result.rectify_depth(depth) is depth
    assert result.rectify_box((1.0, 2.0, 3.0, 4.0)) == (1.0, 2.0, 3.0, 4.0)


def test_zero_p_falls_back_to_k_with_a_warning():
    result = calibrate(camera_info(p=[0.0] * 12), WIDTH, HEIGHT)
    np.testing.assert_array_equal(result.K.ravel(), K)
    (warning,) = result.warnings
    assert "zero P" in warning


def test_the_second_camera_of_a_stereo_pair_is_warned_of():
    info = camera_info(p=[*P[:3], -50.0, *P[4:]])
    (warning,) = calibrate(info, WIDTH, HEIGHT).warnings
    assert "baseline" in warning


def reduced_info(make=camera_info):
    message = make(binning_x=2, binning_y=4)
    message.roi.x_offset, message.roi.y_offset = 100, 40
    message.roi.width, message.roi.height = 320, 240
    return message


def test_region_of_interest_and_binning_change_the_intrinsics():
    result = calibrate(reduced_info(), 160, 60)
    np.testing.assert_allclose(
        result.K, [[250, 0, (319.5 - 100) / 2], [0, 127.5, (239.5 - 40) / 4], [0, 0, 1]]
    )


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"width": 1920, "height": 1080}, "1920x1080 .* 640x480"),
        ({"width": 0, "height": 0}, "0x0 pixels: give it the width and the height"),
        ({"p": [0.0] * 12, "k": [0.0] * 9}, "zero K and P"),
        # uncalibrated cameras leave all empty: another stream's calibration would not help
        ({"width": 0, "height": 0, "p": [0.0] * 12, "k": [0.0] * 9}, "zero K and P"),
        ({"width": 320, "p": [0.0] * 12, "k": [0.0] * 9}, "zero K and P: calibrate the camera"),
        ({"binning_x": 2, "binning_y": 2}, "640x480 pixels before binning by 2x2, but .* no binn"),
        ({"p": [float("nan"), *P[1:]]}, "P that are not finite"),
        ({"p": [float("inf"), *P[1:]]}, "P that are not finite"),
        ({"p": [0.0] * 12, "k": [float("nan"), *K[1:]]}, "K that are not finite"),
        ({"p": [0.0, *P[1:]]}, "fx = 0 in P"),
        ({"p": [-500.0, *P[1:]]}, "fx = -500"),
        ({"p": [*P[:5], 0.0, *P[6:]]}, "fy = 0"),
        ({"p": [*P[:2], -1e9, *P[3:]]}, r"cx = -1e\+09"),
        ({"p": [*P[:10], 0.0, 0.0]}, "P whose last row is not 0 0 1"),
    ],
)
def test_unusable_calibrations_are_refused_by_name(changes, text):
    with pytest.raises(CalibrationError, match=text):
        calibrate(camera_info(**changes), WIDTH, HEIGHT)


@pytest.mark.parametrize("offset", [(150, 0), (200, 0), (340, 260), (340, 0)])
@pytest.mark.parametrize("by_region", [False, True])
def test_a_crop_may_lie_beside_the_principal_point(offset, by_region):
    cx, cy = P[2] - offset[0], P[6] - offset[1]
    if by_region:
        info = camera_info()
        info.roi.x_offset, info.roi.y_offset = offset
        info.roi.width, info.roi.height = 300, 220
    else:
        info = camera_info(width=300, height=220, p=[*P[:2], cx, *P[3:6], cy, *P[7:]])
    result = calibrate(info, 300, 220)
    np.testing.assert_array_equal(result.K[:2, 2], [cx, cy])
    assert result.warnings == ()


def scaled(factor):
    """P of an image so many times as large."""
    return [v * factor for v in P[:8]] + P[8:]


@pytest.mark.parametrize(
    "changes, size, text",
    [
        ({"p": scaled(6)}, (640, 480), "P has .* which fits an image 6 times as large: use"),
        ({"p": scaled(0.5)}, (640, 480), "an image 0.5 times as large"),
        ({"p": [*P[:6], 1400.0, *P[7:]]}, (640, 480), "more than an image away"),
        ({"p": [*P[:2], -700.0, *P[3:]]}, (640, 480), "more than an image away"),
        ({"p": [*P[:2], 0.0, *P[3:6], 0.0, *P[7:]]}, (640, 480), "a corner: fill cx and cy"),
        ({"p": [4.0, *P[1:5], 4.0, *P[6:]]}, (640, 480), "give them in pixels, not in millimetres"),
        ({"p": [5e4, *P[1:5], 5e4, *P[6:]]}, (640, 480), "which no lens has for 640x480"),
        ({"p": [*P[:5], 667.0, *P[6:]]}, (640, 480), "P has fx = 0.75 fy: use the calibration"),
        ({"p": [0.0] * 12, "k": [4.0, *K[1:]]}, (640, 480), "K has .* which no lens has"),
    ],
)
@pytest.mark.parametrize("rectified", [True, False])
def test_a_matrix_that_cannot_belong_to_the_image_is_warned_of(changes, size, text, rectified):
    warnings = calibrate(camera_info(**changes), *size, rectified=rectified).warnings
    assert len([warning for warning in warnings if re.search(text, warning)]) == 1


@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("binning", [2, 3, 4, 8])
def test_binning_that_is_applied_already_is_warned_of(binning, rectified):
    size = {"width": WIDTH * binning, "height": HEIGHT * binning}
    info = camera_info(**size, binning_x=binning, binning_y=binning)
    (warning,) = calibrate(info, WIDTH, HEIGHT, rectified=rectified).warnings
    assert "be applied already: give" in warning and "of the whole sensor, or no" in warning


def test_a_raw_image_is_doubted_by_its_own_matrix():
    info = camera_info(k=[*(3 * v for v in K[:6]), *K[6:]])
    assert calibrate(info, WIDTH, HEIGHT).warnings == ()
    (warning,) = calibrate(info, WIDTH, HEIGHT, rectified=False).warnings
    assert warning.startswith("K has") and "fits an image 3 times as large" in warning


def test_binning_and_region_of_the_whole_sensor_raise_no_doubt():
    whole = camera_info(width=2560, height=1920, binning_x=4, binning_y=4, p=scaled(4))
    assert calibrate(whole, WIDTH, HEIGHT).warnings == ()
    assert calibrate(reduced_info(), 160, 60).warnings == ()


def test_a_region_anywhere_in_the_sensor_raises_no_doubt():
    info = camera_info(width=1920, height=1200)
    info.roi.x_offset, info.roi.width, info.roi.height = 1500, 400, 300
    info.k[2], info.k[5], info.p[2], info.p[6] = 960.0, 600.0, 960.0, 600.0
    assert calibrate(info, 400, 300).warnings == ()
    info.p[2] = 2500.0  # beyond the sensor
    (warning,) = calibrate(info, 400, 300).warnings
    assert "more than an image away" in warning


# ---- images as the lens made them ---------------------------------------------------------------


@pytest.mark.parametrize("model", LENSES)
def test_rectified_image_shows_points_where_the_pinhole_has_them(model):
    result = calibrate(raw_info(model), WIDTH, HEIGHT, rectified=False)
    np.testing.assert_array_equal(result.K, [[500, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])
    x, y = np.meshgrid([-0.3, 0.0, 0.25], [-0.2, 0.05, 0.2])
    points = np.stack((x.ravel(), y.ravel(), np.ones(9)), -1)  # in the raw camera frame
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    for number, (px, py) in enumerate(raw_pixels(points, model)):
        blob = np.exp(-((u - px) ** 2 + (v - py) ** 2) / (2 * 3.0**2))  # smooth: sub-pixel centre
        image[..., number % 3] = np.maximum(image[..., number % 3], 250 * blob)
    rectified = result.rectify(image).astype(float)
    expected = pinhole(result.K, points @ TURN.as_matrix().T)
    for number, (px, py) in enumerate(expected):
        weights = rectified[..., number % 3] * (np.hypot(u - px, v - py) < 15)
        centre = np.array([(u * weights).sum(), (v * weights).sum()]) / weights.sum()
        np.testing.assert_allclose(centre, (px, py), atol=0.3)


@pytest.mark.parametrize("model", LENSES)
@pytest.mark.parametrize("make", [raw_info, reduced_info])
def test_rectified_box_holds_the_outline_of_the_raw_box(model, make):
    if make is reduced_info:
        info, size, scale = reduced_info(lambda **c: raw_info(model, **c)), (160, 60), (2, 4)
        offset = np.array([100, 40])
    else:
        info, size, scale, offset = raw_info(model), (WIDTH, HEIGHT), (1, 1), np.zeros(2)
    result = calibrate(info, *size, rectified=False)
    # a small square in space: its raw outline is found by projection, its rectified one as well
    share = np.linspace(-0.05, 0.05, 201)
    edge = np.full_like(share, 0.05)
    x = np.concatenate((share, share, edge, -edge)) + 0.05
    y = np.concatenate((edge, -edge, share, share)) - 0.04
    points = np.stack((x, y, np.ones_like(x)), -1)
    raw = (raw_pixels(points, model) - offset) / scale
    flat = pinhole(result.K, points @ TURN.as_matrix().T)
    box = (*raw.min(0), *raw.max(0))
    # the box is bent, and as the square's own image is, too, it may stand out by a little
    slack = 0.06 * (flat.max(0) - flat.min(0)).max()
    moved = np.array(result.rectify_box(box))
    np.testing.assert_allclose(moved, (*flat.min(0), *flat.max(0)), atol=slack)
    assert np.abs(moved - box).max() > slack  # that of the raw image would not do


def test_depth_is_rectified_without_mixing_and_with_nan_outside():
    depth = np.full((HEIGHT, WIDTH), 1.0, np.float32)
    depth[:, WIDTH // 2 :] = 3.0
    rectified = calibrate(raw_info(), WIDTH, HEIGHT, rectified=False).rectify_depth(depth)
    assert set(np.unique(rectified[np.isfinite(rectified)])) == {1.0, 3.0}
    shifted = camera_info(distortion_model="plumb_bob", p=[*P[:2], 419.5, *P[3:]])
    outside = calibrate(shifted, WIDTH, HEIGHT, rectified=False).rectify_depth(depth)
    assert (
        np.isnan(outside[HEIGHT // 2, :50]).all()
        and np.isfinite(outside[HEIGHT // 2, 150:400]).all()
    )


def test_zero_p_and_r_rectify_to_k():
    info = camera_info(distortion_model="plumb_bob", d=[0.0] * 5, p=[0.0] * 12, r=[0.0] * 9)
    result = calibrate(info, WIDTH, HEIGHT, rectified=False)
    np.testing.assert_array_equal(result.K.ravel(), K)
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    np.testing.assert_array_equal(result.rectify(image), image)
    np.testing.assert_allclose(
        result.rectify_box((10, 20, 300, 400)), (10, 20, 300, 400), atol=0.01
    )


def test_agrees_with_opencv_which_image_geometry_uses():
    info = raw_info()
    result = calibrate(info, WIDTH, HEIGHT, rectified=False)
    maps = cv2.initUndistortRectifyMap(
        info.k.reshape(3, 3),
        np.array(info.d),
        info.r.reshape(3, 3),
        info.p.reshape(3, 4),
        (WIDTH, HEIGHT),
        cv2.CV_16SC2,
    )
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    expected = cv2.remap(image, *maps, cv2.INTER_LINEAR)
    np.testing.assert_array_equal(result.rectify(image), expected)


@pytest.mark.parametrize(
    "model, d, same_model, same_d",
    [
        ("equidistant", [*EQUIDISTANT, 0.0], "equidistant", EQUIDISTANT),
        ("fisheye", EQUIDISTANT, "equidistant", EQUIDISTANT),
        ("Fisheye", [*EQUIDISTANT, 0.0, 0.0], "equidistant", EQUIDISTANT),
        ("plumb_bob", [*PLUMB_BOB, 0.0, 0.0, 0.0], "plumb_bob", PLUMB_BOB),
        ("plumb_bob", [*PLUMB_BOB[:4], *[0.0] * 4], "plumb_bob", PLUMB_BOB[:4]),
        ("rational_polynomial", [*RATIONAL, *[0.0] * 6], "rational_polynomial", RATIONAL),
        ("rational_polynomial", [*RATIONAL, *[0.0] * 5], "rational_polynomial", RATIONAL),
        ("rational_polynomial", PLUMB_BOB, "plumb_bob", PLUMB_BOB),
        ("plumb_bob", [0.0] * 2, "plumb_bob", [0.0] * 4),
        ("", [], "plumb_bob", [0.0] * 4),
        ("", [0.0] * 5, "plumb_bob", [0.0] * 4),
    ],
)
def test_models_as_drivers_fill_them_mean_the_same(model, d, same_model, same_d):
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    given = calibrate(raw_info(model, d=d), WIDTH, HEIGHT, rectified=False)
    same = calibrate(raw_info(same_model, d=same_d), WIDTH, HEIGHT, rectified=False)
    np.testing.assert_array_equal(given.rectify(image), same.rectify(image))
    box = (200.0, 100.0, 300.0, 250.0)
    np.testing.assert_allclose(given.rectify_box(box), same.rectify_box(box), atol=1e-6)


@pytest.mark.parametrize("count", [12, 14])
def test_thin_prisms_and_tilted_sensors_are_rectified(count):
    d = [*RATIONAL, 0.01, -0.02, 0.03, 0.01, 0.02, -0.01][:count]
    result = calibrate(raw_info("rational_polynomial", d=d), WIDTH, HEIGHT, rectified=False)
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    matrices = np.reshape(K, (3, 3)), np.array(d), TURN.as_matrix(), result.K
    maps = cv2.initUndistortRectifyMap(*matrices, (WIDTH, HEIGHT), cv2.CV_16SC2)
    expected = cv2.remap(image, *maps, cv2.INTER_LINEAR)
    np.testing.assert_array_equal(result.rectify(image), expected)
    left, top, right, bottom = result.rectify_box((200.0, 100.0, 300.0, 250.0))
    corners = np.array([[[200.0, 100.0]], [[300.0, 250.0]]])
    moved = cv2.undistortPoints(corners, *matrices[:2], R=matrices[2], P=matrices[3])[:, 0]
    assert left <= moved[0, 0] and top <= moved[0, 1]
    assert right >= moved[1, 0] and bottom >= moved[1, 1]


def test_maps_are_made_once_per_calibration():
    calibration._maps.cache_clear()
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for _ in range(3):
        calibrate(raw_info(), WIDTH, HEIGHT, rectified=False).rectify(image)
    assert calibration._maps.cache_info().misses == 1
    calibrate(raw_info(k=[521.0, *K[1:]]), WIDTH, HEIGHT, rectified=False).rectify(image)
    assert calibration._maps.cache_info().misses == 2


def test_a_box_beyond_the_lens_model_is_refused():
    strong = raw_info(d=[-0.3, 0.0, 0.0, 0.0, 0.0])  # folds over at about 46 degrees
    result = calibrate(strong, WIDTH, HEIGHT, rectified=False)
    with pytest.raises(InputError, match="lens model"):
        result.rectify_box((-900.0, 200.0, 100.0, 300.0))
    fisheye = calibrate(raw_info("equidistant"), WIDTH, HEIGHT, rectified=False)
    edge = K[2] + K[0] * math.pi / 2 * 1.2  # more than 90 degrees off the axis
    with pytest.raises(InputError, match="lens model"):
        fisheye.rectify_box((300.0, 200.0, edge, 300.0))


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"distortion_model": "fisheye_624"}, "'fisheye_624': use one of plumb_bob"),
        ({"distortion_model": ""}, "model '' but 5 coefficients in D: use one of plumb_bob"),
        ({"d": [0.1, 0.2]}, "2 values in D, but plumb_bob has 4 or 5: correct the model"),
        ({"d": RATIONAL}, "8 values in D, as rational_polynomial would have, but plumb_bob has"),
        ({"distortion_model": "fisheye", "d": PLUMB_BOB}, "5 values .* but fisheye has 4"),
        ({"distortion_model": "rational_polynomial", "d": [0.1] * 9}, "9 values in D, but"),
        ({"d": [float("nan")] * 5}, "D that are not finite"),
        ({"k": [0.0] * 9}, "in K"),
        ({"k": [float("inf"), *K[1:]]}, "K that are not finite"),
        ({"r": [1.0] * 9}, "R that is not a rotation"),
        ({"r": [float("nan")] * 9}, "R that is not a rotation"),
        ({"r": np.diag([-1.0, 1.0, 1.0]).ravel()}, "R that is not a rotation"),
    ],
)
def test_unusable_lenses_are_refused_by_name(changes, text):
    with pytest.raises(CalibrationError, match=text):
        calibrate(raw_info(**changes), WIDTH, HEIGHT, rectified=False)
