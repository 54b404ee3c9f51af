"""Pictures: do the colours and places on them say what the distribution says?"""

import functools
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import so3
from spyropose_ros.core.plots import ghosts, overlay, rotation_map, rotation_plot
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox

K = np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]])
DIAMETER = 0.1
DEPTH = 5
POSITION = torch.tensor([0.02, -0.01, 0.5])
# Object z points up in the image, x to the right, y away from the camera.
UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
SIZE = (480, 320)


def turned(degrees, axis="z"):
    """UPRIGHT after a turn about an object axis."""
    return UPRIGHT @ Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def distribution(rotation=None, ring=False):
    """Sharp about a rotation, about the ring of its turns around object z, or uniform (None)."""
    return _distribution(None if rotation is None else tuple(np.ravel(rotation)), ring)


@functools.cache
def _distribution(rotation, ring):
    box = TranslationBox.from_view(POSITION[None], DIAMETER)
    target = None if rotation is None else torch.tensor(rotation).float().reshape(3, 3)

    def scorer(level, rotations, translations):
        width = 2.0**-level  # as blurred as the cells of the level
        logits = -((translations - POSITION) / (width * torch.tensor([0.05, 0.05, 0.25]))).square()
        logits = logits.sum(-1)
        if target is not None:
            angle = so3.geodesic_angle(rotations, target)
            if ring:
                angle = torch.acos((rotations[..., 2] @ target[:, 2]).clamp(-1, 1))
            logits = logits - 2 * (angle / width).square()
        return logits

    return search(scorer, box, DEPTH).distribution(0)


def coloured(picture):
    """Pixels that are neither white nor grey (legend left out), as rows of (x, y)."""
    spread = np.ptp(picture.astype(int), axis=2)
    spread[-88:] = 0
    rows, columns = np.nonzero(spread > 60)
    return np.stack([columns, rows], axis=1)


def hue(picture, pixels):
    """Mean hue in degrees of pixels given as rows of (x, y)."""
    values = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    angles = np.deg2rad(values[pixels[:, 1], pixels[:, 0], 0])
    return math.degrees(math.atan2(np.sin(angles).mean(), np.cos(angles).mean())) % 360


def wheel_hue(picture, turn_degrees):
    """Hue of the legend's colour wheel at an angle from the top, counter-clockwise."""
    turn = np.deg2rad(turn_degrees)
    x, y = np.array([480 - 50, 320 - 45]) - 20 * np.array([np.sin(turn), np.cos(turn)])
    return hue(picture, np.array([[round(x), round(y)]]))


def hue_difference(a, b):
    return abs((a - b + 180) % 360 - 180)


# ------------------------------------------------------------------------------ rotation plot


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(0, (0.75, 0.5)), (-90, (0.5, 0.5)), (180, (0.25, 0.5)), (-45, (0.625, 0.5))]
    + [(90, (0.5, 0.5)), (60, (0.583, 0.5)), (120, (0.417, 0.5))],  # centred on "away"
)
def test_a_sharp_mode_is_where_the_x_axis_points(degrees, expected):
    picture = rotation_plot(distribution(turned(degrees)), SIZE)
    pixels = coloured(picture)
    map_left, map_width, map_top, map_height = 40, 400, 29, 200
    place = np.median(pixels, axis=0)
    wanted = (map_left + expected[0] * map_width, map_top + expected[1] * map_height)
    assert np.abs(place - wanted).max() < 8


def test_x_pointing_up_in_the_image_is_at_the_top_of_the_map():
    upwards = turned(-90, "y")
    assert upwards[1, 0] == pytest.approx(-1)
    pixels = coloured(rotation_plot(distribution(upwards), SIZE))
    assert np.median(pixels[:, 1]) < 45


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_colour_tells_the_turn_about_x_as_the_wheel_shows_it(turn):
    facing = turned(-90)  # x towards the camera, z up
    rotated = facing @ Rotation.from_euler("x", turn, degrees=True).as_matrix()
    picture = rotation_plot(distribution(rotated), SIZE)
    found = hue(picture, coloured(picture))
    assert hue_difference(found, wheel_hue(picture, turn)) < 25


def test_wheel_turns_as_object_z_does_in_the_image_when_x_faces_the_camera():
    # A positive turn about x, which points at the viewer, carries z from up to the left.
    rotated = turned(-90) @ Rotation.from_euler("x", 90, degrees=True).as_matrix()
    assert np.allclose(rotated[:, 2], [-1, 0, 0])


def test_unknown_turn_about_z_is_a_ring_through_the_whole_map_in_one_colour():
    ring = coloured(rotation_plot(distribution(UPRIGHT, ring=True), SIZE))
    columns = np.unique((ring[:, 0] - 40) // 40)  # tenths of the map
    assert set(range(10)) <= set(columns.tolist())
    near = np.abs(ring[:, 1] - 129) < 35
    assert near.mean() > 0.9


@pytest.mark.parametrize("degrees", [-120, -90, -50, 0, 50, 90, 120, 180])
def test_the_rim_does_not_cut_through_an_arc(degrees):
    arc = [distribution(turned(degrees + step)) for step in (-40, 0, 40)]
    parts = [rotation_plot(each, SIZE) for each in arc]
    mixed = mixture(arc)
    pixels = coloured(rotation_plot(mixed, SIZE))
    assert all(len(coloured(part)) > 100 for part in parts)
    assert np.ptp(np.percentile(pixels[:, 0], (2, 98))) < 0.5 * 400


def mixture(parts):
    """Something that is as probable as each of the parts."""

    def sample(n, generator):
        drawn = [part.sample(-(-n // len(parts)), generator) for part in parts]
        return tuple(torch.cat(each)[:n] for each in zip(*drawn, strict=True))

    modes = [mode for part in parts for mode in part.modes()]
    probabilities = parts[0].probabilities
    return SimpleNamespace(sample=sample, modes=lambda: modes, probabilities=probabilities)


def test_left_and_right_are_those_of_the_image_on_both_maps():
    towards, away = (rotation_plot(distribution(turned(a)), SIZE) for a in (-60, 60))
    assert (np.median(coloured(towards)[:, 0]), np.median(coloured(away)[:, 0])) > (245, 245)


@pytest.mark.parametrize("turn", [40, -60])
def test_the_wheel_looks_like_the_turns_on_the_map_that_points_away(turn):
    leaning = turned(90) @ Rotation.from_euler("x", turn, degrees=True).as_matrix()
    to_right = leaning[0, 2]
    picture = rotation_plot(distribution(leaning), SIZE)
    found = hue(picture, coloured(picture))
    assert hue_difference(found, wheel_hue(picture, -abs(turn) * np.sign(to_right))) < 25


def test_crosses_and_their_legend_stand_for_the_modes():
    sharp = distribution(turned(-90))
    picture = rotation_plot(sharp, SIZE).astype(int)
    x, y = 240, 129  # towards the camera
    assert picture[y - 2 : y + 3, x - 2 : x + 3].max(axis=2).min() < 60
    assert (picture[-66:-50, 10:30] < 60).any()


def test_a_map_alone_has_the_same_distribution():
    sharp = distribution(turned(0))
    picture = rotation_map(sharp, (400, 208))
    spread = np.ptp(picture.astype(int), axis=2)
    columns = np.nonzero(spread > 60)[1]
    assert picture.shape == (208, 400, 3) and abs(np.median(columns) - 0.75 * 400) < 12


def test_tilted_ring_runs_through_the_hues():
    tilted = Rotation.from_euler("x", 60, degrees=True).as_matrix() @ UPRIGHT
    picture = rotation_plot(distribution(tilted, ring=True), SIZE)
    pixels = coloured(picture)
    left, right = (pixels[np.abs(pixels[:, 0] - x) < 25] for x in (140, 340))
    assert hue_difference(hue(picture, left), hue(picture, right)) > 60


def test_sharp_mode_is_a_spot_and_the_uniform_distribution_fills_the_map():
    sharp = coloured(rotation_plot(distribution(UPRIGHT), SIZE))
    uniform = coloured(rotation_plot(distribution(), SIZE))
    extent = [np.ptp(np.percentile(p, (5, 95), axis=0), axis=0) for p in (sharp, uniform)]
    assert extent[0].max() < 75
    assert extent[1].min() > 140


def test_truths_at_one_place_are_all_visible():
    facing = turned(-90)
    flipped = facing @ np.diag([1.0, -1, -1])
    uniform = distribution()
    without = rotation_plot(uniform, SIZE)
    both = rotation_plot(uniform, SIZE, truth=np.stack([facing, flipped]))
    one = rotation_plot(uniform, SIZE, truth=facing)
    assert (one != without).any()
    changed = np.argwhere((both != without).any(axis=2))[:, ::-1]
    hues = np.array([hue(both, pixel[None]) for pixel in changed])
    for turn in (0, 180):
        assert (hue_difference(hues, wheel_hue(both, turn)) < 5).sum() > 100


@pytest.mark.parametrize("size", [(240, 160), (480, 320), (960, 640), (1000, 320), (320, 600)])
def test_size_and_repeatability(size):
    sharp = distribution(UPRIGHT)
    picture = rotation_plot(sharp, size)
    assert picture.shape == (size[1], size[0], 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, rotation_plot(sharp, size))


def test_a_picture_does_not_leave_its_dots_in_the_next_one():
    uniform = distribution()
    before = rotation_plot(uniform, SIZE)
    rotation_plot(distribution(UPRIGHT), SIZE, truth=UPRIGHT)
    assert np.array_equal(before, rotation_plot(uniform, SIZE))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (100, 100)}, "size"),
        ({"size": (480,)}, "size"),
        ({"axis": "w"}, "axis"),
        ({"axis": "xy"}, "axis"),
        ({"samples": 0}, "samples"),
        ({"truth": np.eye(4)}, "truth"),
        ({"truth": np.zeros(3)}, "truth"),
    ],
)
def test_rotation_plot_names_the_bad_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        rotation_plot(distribution(), **arguments)


# ------------------------------------------------------------------------------------- ghosts


def test_the_ghosts_of_a_ring_stand_all_around_it_and_share_the_mass():
    fan = ghosts(distribution(UPRIGHT, ring=True))
    assert fan.masses.sum() == pytest.approx(1) and (np.diff(fan.masses) <= 0).all()
    angles = np.sort(np.degrees(np.arctan2(fan.rotations[:, 2, 0], fan.rotations[:, 0, 0])) % 360)
    gaps = np.diff(np.r_[angles, angles[0] + 360])
    assert len(angles) >= 10 and gaps.max() < 60
    assert np.degrees(np.arccos(-fan.rotations[:, 1, 2])).max() < 60  # z remains up
    np.testing.assert_allclose(fan.masses @ fan.translations, POSITION, atol=0.03)


def test_the_ghosts_are_few_where_the_pose_is_known_and_never_too_many():
    sharp, unknown = ghosts(distribution(UPRIGHT)), ghosts(distribution(), most=5)
    assert len(sharp.masses) <= 12
    turn = so3.geodesic_angle(
        torch.as_tensor(sharp.rotations[0]).float(), torch.tensor(UPRIGHT).float()
    )
    assert math.degrees(turn) < 10
    assert len(unknown.masses) == 5 and unknown.masses.sum() == pytest.approx(1)


# ------------------------------------------------------------------------------------ overlay


def grey(height=480, width=640):
    return np.full((height, width, 3), 128, np.uint8)


def at(picture, point):
    """Mean colour of the 3 x 3 pixels where a camera-frame point projects."""
    u, v, w = K @ np.asarray(point)
    x, y = round(u / w), round(v / w)
    return picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).astype(float).mean(axis=0)


def test_axes_are_drawn_where_they_project_in_their_colours():
    sharp = distribution(UPRIGHT)
    rotation, translation = (part.numpy() for part in sharp.mode())
    picture = overlay(grey(), K, sharp, DIAMETER)
    for axis, channel in ((0, 0), (2, 2)):
        middle = translation + 0.3 * DIAMETER * rotation[:, axis]
        assert at(picture, middle).argmax() == channel
        assert at(picture, middle).max() > 170
        beyond = translation + 0.8 * DIAMETER * rotation[:, axis]
        assert np.allclose(at(picture, beyond), 128, atol=12)


def test_a_ring_spreads_the_x_axis_over_all_its_turns_but_keeps_z():
    tilted = Rotation.from_euler("x", 60, degrees=True).as_matrix() @ UPRIGHT
    angles = np.arange(0, 360, 30)
    turns = [tilted @ Rotation.from_euler("z", a, degrees=True).as_matrix() for a in angles]
    reached = []
    for ring in (True, False):
        spread = distribution(tilted, ring)
        picture = overlay(grey(), K, spread, DIAMETER)
        ends = [at(picture, POSITION.numpy() + 0.35 * DIAMETER * turn[:, 0]) for turn in turns]
        reached.append(sum(np.ptp(end) > 15 for end in ends))
        z_axis = at(picture, POSITION.numpy() + 0.35 * DIAMETER * tilted[:, 2])
        assert z_axis.argmax() == 2
        assert np.ptp(z_axis) > 30
    assert reached[0] >= 9 > 6 >= reached[1]


def test_glow_covers_the_object_and_only_the_object():
    directions = np.random.default_rng(0).normal(size=(1500, 3))
    ball = 0.5 * DIAMETER * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    sharp = distribution(UPRIGHT)
    plain = overlay(grey(), K, sharp, DIAMETER).astype(int)
    glowing = overlay(grey(), K, sharp, DIAMETER, mesh_points=ball).astype(int)
    changed = (plain != glowing).any(axis=2)
    centre = K @ POSITION.numpy()
    centre = centre[:2] / centre[2]
    y, x = np.indices(changed.shape)
    distance = np.hypot(x - centre[0], y - centre[1])
    radius = 0.5 * DIAMETER * K[0, 0] / float(POSITION[2])
    assert changed[distance < 0.8 * radius].mean() > 0.9
    assert changed[distance > 1.4 * radius].mean() < 0.01


def test_truth_is_dashed_white_and_the_image_stays_untouched():
    image = grey()
    sharp = distribution(UPRIGHT)
    truth = turned(90), POSITION + torch.tensor([0.03, 0.0, 0.0])
    without = overlay(image, K, sharp, DIAMETER)
    picture = overlay(image, K, sharp, DIAMETER, truth=truth)
    assert (image == 128).all()
    white = ((picture > 235).all(axis=2) & ~(without > 235).all(axis=2)).sum()
    assert white > 30


def test_several_objects_with_labels_and_partial_truth():
    sharp, ring = distribution(UPRIGHT), distribution(UPRIGHT, ring=True)
    pose = UPRIGHT, POSITION
    picture = overlay(
        grey(), K, [sharp, ring], [DIAMETER, 0.08], truth=[None, pose], labels=["mug", None]
    )
    unlabelled = overlay(grey(), K, [sharp, ring], [DIAMETER, 0.08], truth=[None, pose])
    assert (picture != unlabelled).any()
    assert np.array_equal(overlay(grey(), K, [], DIAMETER), grey())


def test_an_object_outside_or_behind_the_camera_does_not_fail():
    away = K.copy()
    away[0, 2] = 1e6
    sharp = distribution(UPRIGHT)
    points = np.zeros((4, 3))
    assert np.array_equal(overlay(grey(), away, sharp, DIAMETER, points)[:, 50:], grey()[:, 50:])
    behind = overlay(grey(), K, sharp, 5.0, mesh_points=50 * np.eye(3), labels="big")
    assert behind.shape == (480, 640, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": grey().astype(np.float32)}, "image.*uint8"),
        ({"image": grey()[..., 0]}, "image"),
        ({"image": np.zeros((4, 4, 4), np.uint8)}, "image"),
        ({"image": "picture.png"}, "image"),
        ({"K": np.eye(4)}, "K must"),
        ({"K": np.zeros((3, 3))}, "calibrated"),
        ({"K": K * np.nan}, "finite"),
        ({"diameter": 0.0}, "diameter"),
        ({"diameter": [0.1, 0.1]}, "diameter"),
        ({"mesh_points": np.zeros((5, 2))}, "mesh_points"),
        ({"truth": np.eye(3)}, "truth"),
        ({"samples": 0}, "samples"),
    ],
)
def test_overlay_names_the_bad_argument(changes, message):
    arguments = {"image": grey(), "K": K, "distributions": distribution(), "diameter": DIAMETER}
    with pytest.raises(ValueError, match=message):
        overlay(**(arguments | changes))
