"""Detections of several cameras, grouped by the object they show."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from spyropose_ros.ros.pipeline.association import CameraTargets, associate
from spyropose_ros.ros.pipeline.detections import Target

sys.path.append(str(Path(__file__).parent))
from test_triangulation import CAMERAS, DIAMETER, RATIO, K, box_of


@dataclass
class Size:
    diameter: float = DIAMETER
    size_ratio: float = RATIO


SIZES = {"mug": Size(), "cup": Size()}
LEFT, RIGHT = np.array([0.1, -0.2, 0.3]), np.array([0.1, -0.05, 0.3])  # 1.25 diameters apart


def target(box, name="mug"):
    return Target(name, name, "", 1.0, tuple(box))


def view(camera, *things):
    """A camera and what it sees: (centre, name) each."""
    targets = [target(box_of(center, CAMERAS[camera]), name) for center, name in things]
    return CameraTargets(targets, K, CAMERAS[camera])


def members(groups):
    return [group.members for group in groups]


def test_two_equal_objects_side_by_side():
    left, right = (LEFT, "mug"), (RIGHT, "mug")
    groups = associate([view(0, left, right), view(1, right, left), view(2, left, right)], SIZES)
    assert members(groups) == [{0: 0, 1: 1, 2: 0}, {0: 1, 1: 0, 2: 1}]
    np.testing.assert_allclose(groups[0].center, LEFT, atol=1e-6)
    np.testing.assert_allclose(groups[1].center, RIGHT, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_need_not_be_exact(seed):
    """Edges are off by 5 % of the box, as those of a detector."""
    rng = np.random.default_rng(seed)
    views = []
    for camera in range(3):
        boxes = np.stack([box_of(center, CAMERAS[camera]) for center in (LEFT, RIGHT)])
        size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        boxes += 0.05 * rng.standard_normal(boxes.shape) * size
        views.append(CameraTargets([target(box) for box in boxes], K, CAMERAS[camera]))
    assert members(associate(views, SIZES)) == [{0: 0, 1: 0, 2: 0}, {0: 1, 1: 1, 2: 1}]


def test_a_camera_may_miss_one():
    left, right = (LEFT, "mug"), (RIGHT, "mug")
    groups = associate([view(0, left, right), view(1, right), view(2, left, right)], SIZES)
    assert members(groups) == [{0: 1, 1: 0, 2: 1}, {0: 0, 2: 0}]


def test_a_false_positive_stays_alone():
    false = target([20.0, 30, 80, 100])
    views = [view(0, (LEFT, "mug")), view(1, (LEFT, "mug")), view(2, (LEFT, "mug"))]
    views[1] = CameraTargets([false, *views[1].targets], K, CAMERAS[1])
    assert members(associate(views, SIZES)) == [{0: 0, 1: 1, 2: 0}, {1: 0}]


def test_objects_of_different_names_are_never_one():
    groups = associate([view(0, (LEFT, "mug")), view(1, (LEFT, "cup"))], SIZES)
    assert [(group.object_name, group.members) for group in groups] == [
        ("mug", {0: 0}),
        ("cup", {1: 0}),
    ]


def test_two_detections_of_one_camera_are_never_one():
    groups = associate([view(0, (LEFT, "mug"), (LEFT + 0.001, "mug"))], SIZES)
    assert members(groups) == [{0: 0}, {0: 1}]


def test_cameras_that_see_nothing():
    assert associate([], SIZES) == []
    assert associate([view(0), view(1)], SIZES) == []
    assert members(associate([view(0), view(1, (LEFT, "mug"))], SIZES)) == [{1: 0}]
