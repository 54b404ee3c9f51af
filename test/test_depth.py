"""Centres from depth images: rendered mugs against the truth, and depth that cannot be used."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from spyropose_ros.core.camera import translation_from_boxes
from spyropose_ros.ros.pipeline.depth import OFFSET, centers_from_depth, check_size
from spyropose_ros.ros.pipeline.drops import BadInputError, Reason
from spyropose_ros.scenes.detector import noisy_box
from spyropose_ros.scenes.renderer import Renderer, upright_rotation

MUG = Path(__file__).parents[1] / "models/demo_mug"
INFO = json.loads((MUG / "config.json").read_text())["object"]
DIAMETER = INFO["diameter"]
WIDTH, HEIGHT = 320, 240
K = np.array([[300.0, 0, 150.0], [0, 310.0, 125.0], [0, 0, 1]])


@pytest.fixture(scope="module")
def mugs():
    """Depth images of mugs with a wall behind, noise and holes; boxes [N, 4]; centres [N, 3]."""
    rng = np.random.default_rng(0)
    renderer = Renderer(trimesh.load(MUG / "mesh.ply"))
    images, boxes, centers = [], [], []
    while len(images) < 40:
        rotation, z = upright_rotation(rng), rng.uniform(4, 8) * DIAMETER
        center = np.array([rng.uniform(-0.2, 0.2) * z, rng.uniform(-0.15, 0.15) * z, z])
        buffer = renderer.render(rotation, center - rotation @ INFO["center"], K, WIDTH, HEIGHT)
        depth = np.where(buffer.mask, buffer.depth, z + rng.uniform(0.2, 1.0))
        depth *= 1 + 0.005 * rng.normal(size=depth.shape)
        depth[rng.random(depth.shape) < 0.2] = np.nan
        y, x = np.nonzero(buffer.mask)
        images.append(depth.astype(np.float32))
        boxes.append(noisy_box(np.array([x.min(), y.min(), x.max(), y.max()], float), rng))
        centers.append(center)
    return images, np.array(boxes), np.array(centers)


def estimate(depth, box):
    """Centre [3] from one depth image and one box [4]."""
    (center,) = centers_from_depth(depth, K, np.array([box]), DIAMETER)
    return center


def test_depth_is_several_times_better_than_the_size_of_the_box(mugs):
    images, boxes, centers = mugs
    by_depth = np.array([estimate(*pair) for pair in zip(images, boxes, strict=True)])
    by_box = translation_from_boxes(
        torch.tensor(boxes), torch.tensor(K), DIAMETER, INFO["size_ratio"]
    ).numpy()
    error = np.abs(by_depth - centers)[:, 2] / DIAMETER
    error_of_box = np.abs(by_box - centers)[:, 2] / DIAMETER
    assert np.median(error) < 0.08 and np.quantile(error, 0.95) < 0.2
    assert np.median(error) < np.median(error_of_box) / 3
    assert np.quantile(error, 0.95) < np.quantile(error_of_box, 0.95) / 3


def test_the_ray_through_the_middle_of_the_box_is_taken(mugs):
    images, boxes, _ = mugs
    center = estimate(images[0], boxes[0])
    pixel = K @ center / center[2]
    np.testing.assert_allclose(pixel[:2], (boxes[0][:2] + boxes[0][2:]) / 2)


def plane(z, background=2.0, size=60):
    """A square of depth z in front of a background, and its box."""
    depth = np.full((HEIGHT, WIDTH), background, np.float32)
    x, y = 150 - size // 2, 125 - size // 2
    depth[y : y + size, x : x + size] = z
    return depth, np.array([x, y, x + size - 1, y + size - 1], float)


# At this depth the square is as large as the bounding sphere looks
NEAR = 300 * DIAMETER / 60


def test_the_centre_lies_behind_the_surface():
    depth, box = plane(NEAR)
    assert estimate(depth, box)[2] == pytest.approx(NEAR + OFFSET * DIAMETER)


def test_a_little_in_front_and_much_behind_do_not_matter():
    depth, box = plane(NEAR)
    left, top, right, bottom = box.astype(int)
    depth[top:bottom, left : left + 9] = NEAR - 2 * DIAMETER  # something thin in front
    depth[top : top + 20, left + 20 : right] = 2.0  # a hole
    assert estimate(depth, box)[2] == pytest.approx(NEAR + OFFSET * DIAMETER)


@pytest.mark.parametrize("surface", [np.nan, 2.0])
def test_no_depth_and_only_background_as_behind_glass_are_unusable(surface):
    assert np.isnan(estimate(*plane(surface))).all()


def test_too_few_pixels_are_unusable():
    depth, box = plane(NEAR)
    left, top = box[:2].astype(int)
    depth[top:, left:] = np.nan
    depth[top + 20 : top + 34, left + 20 : left + 34] = NEAR  # of 48 x 48 that are looked at
    assert np.isnan(estimate(depth, box)).all()
    depth[top + 20 : top + 37, left + 20 : left + 37] = NEAR
    assert np.isfinite(estimate(depth, box)).all()


def test_rows_are_independent_and_boxes_may_leave_the_image():
    depth, box = plane(NEAR)
    outside = np.array([-200.0, -200.0, -100.0, -100.0])
    tiny = np.array([10.2, 10.2, 10.4, 10.4])
    rows = centers_from_depth(depth, K, np.array([outside, box, tiny]), DIAMETER)
    assert np.isnan(rows[[0, 2]]).all() and np.isfinite(rows[1]).all()
    assert centers_from_depth(depth, K, np.zeros((0, 4)), DIAMETER).shape == (0, 3)
    each = centers_from_depth(depth, K, np.array([box, box]), np.array([1.0, 1.1]) * DIAMETER)
    assert each[1, 2] - each[0, 2] == pytest.approx(0.1 * OFFSET * DIAMETER)
    depth[:] = NEAR
    assert np.isfinite(estimate(depth, [-30.0, 100.0, 29.0, 159.0])).all()  # half of it is inside


def test_thinning_out_large_windows_changes_little(mugs, monkeypatch):
    images, boxes, _ = mugs
    full = estimate(images[0], boxes[0])
    monkeypatch.setattr("spyropose_ros.ros.pipeline.depth.MAX_PIXELS", 100)
    thin = estimate(images[0], boxes[0])
    assert not np.array_equal(thin, full)
    np.testing.assert_allclose(thin, full, atol=0.1 * DIAMETER)


def test_depth_of_another_size_is_refused():
    check_size(np.zeros((HEIGHT, WIDTH)), WIDTH, HEIGHT)
    with pytest.raises(
        BadInputError, match="320x240 pixels but the colour image 640x480"
    ) as caught:
        check_size(np.zeros((HEIGHT, WIDTH)), 640, 480)
    assert caught.value.reason is Reason.BAD_DEPTH
