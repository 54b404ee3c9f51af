"""Admissible poses on objects whose sets are known exactly, and precision and recall of sets."""

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from training.data.rendered_objects import load_object_model
from training.data.shapes import ShapesSource
from training.data.source import EvaluationObject, Sample, Seen
from training.evaluation.admissible import AdmissiblePoses
from training.evaluation.ambiguity import ambiguity_metrics, distances, precision_recall
from training.symmetry.group import angles

K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
IMAGE = np.zeros((480, 640, 3), np.uint8)
HANDLE_AWAY, HANDLE_ASIDE = 90, 180  # azimuths, degrees
COUNTS = {"cube": (24, 24), "tet": (12, 12), "cone": (53, 110)}


@pytest.fixture(scope="module")
def mug():
    model = load_object_model("mug")
    return AdmissiblePoses(model.mesh, model.center, model.diameter)


def mug_sample(azimuth, hidden=None):
    """The mug from the side, upright; what hides it, [H, W] bool."""
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    rotation = upright @ Rotation.from_euler("z", azimuth, degrees=True).as_matrix()
    seen = None
    if hidden is not None:
        seen = lambda: Seen(~hidden, hidden)  # noqa: E731
    at = np.array([0.0, 0.05, 0.5])
    return Sample("0", IMAGE, K, rotation, at, None, visible_fraction=0.9, seen=seen)


def azimuths(poses):
    """How far the handle is turned from its true place, degrees, [A]."""
    twist = np.linalg.inv(poses[0, :3, :3]) @ poses[:, :3, :3]
    return np.degrees(np.arctan2(twist[:, 1, 0], twist[:, 0, 0]))


@pytest.mark.parametrize("shape", COUNTS)
def test_solids_have_their_symmetries(shape):
    """Rings are sampled: 53 poses at least, 3.44 degrees apart, within 5 degrees of any."""
    source = ShapesSource(shape, 96)
    find, symmetries = AdmissiblePoses(source.mesh, source.center, source.diameter), source.target()
    for sample in itertools.islice(source.samples("test", 0), 2):
        poses = find(sample)
        true = sample.rotation @ symmetries.symmetries[:, :3, :3]
        low, high = COUNTS[shape]
        assert low <= len(poses) <= high
        assert max(angles(true, R).min() for R in poses[:, :3, :3]) < np.radians(1)
        assert max(angles(poses[:, :3, :3], R).min() for R in true) < np.radians(5)
        np.testing.assert_allclose(poses[:, :3, 3] - sample.translation, 0, atol=0.01)
        np.testing.assert_allclose(poses[0, :3, :3], sample.rotation, atol=1e-6)


def test_a_hidden_handle_may_be_anywhere_behind_the_mug(mug):
    nothing = np.zeros((480, 640), bool)
    away = azimuths(mug(mug_sample(HANDLE_AWAY, nothing)))
    assert len(away) > 10 and away.min() < -15 and away.max() > 15
    assert np.abs(away).max() < 60  # further round it would stick out
    assert np.abs(azimuths(mug(mug_sample(HANDLE_ASIDE, nothing)))).max() < 10


def test_what_is_hidden_by_something_else_may_be_anywhere_there(mug):
    """The handle is behind something at the left, where it may point to or from the camera."""
    left = np.zeros((480, 640), bool)
    left[:, :282] = True
    spread = np.abs(azimuths(mug(mug_sample(HANDLE_ASIDE, left))))
    assert spread.max() > 25


def test_it_must_be_known_what_hides_an_object(mug):
    with pytest.raises(InputError, match="does not say where"):
        mug(mug_sample(HANDLE_AWAY))


# --- precision and recall ---

THRESHOLDS = np.array([0.5, 1.5])
FOUR = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))  # places on a line


@pytest.mark.parametrize(
    "predicted, precision, recall",
    [
        ([0, 1, 2, 3], 1, 1),  # all of them
        (
            [0, 0, 0, 0],
            1,
            (1 / 4 + 2 / 4) / 2,
        ),  # one: at the wider threshold it finds its neighbour
        ([0, 1, 2, 9], 3 / 4, (3 / 4 + 1) / 2),  # three, and a wrong one
        ([9, 9, 9, 9], 0, 0),
    ],
)
def test_precision_and_recall_of_places(predicted, precision, recall):
    distance = np.abs(np.subtract.outer(np.array(predicted, float), np.arange(4.0)))
    got = precision_recall(distance, FOUR, THRESHOLDS)
    assert got == pytest.approx((precision, recall))


def test_little_mass_does_not_find_a_pose():
    """Two hundredths of the mass where an even distribution has a quarter."""
    places = np.repeat([0.0, 3.0], [98, 2])
    distance = np.abs(np.subtract.outer(places, np.arange(4.0)))
    assert precision_recall(distance, FOUR, THRESHOLDS[:1])[1] == pytest.approx(1 / 4)


def test_distances_are_those_of_the_farthest_points():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 7, 3)), rng.normal(size=(40, 7, 3))
    slow = [[np.linalg.norm(x - y, axis=1).max() for y in b] for x in a]
    np.testing.assert_allclose(distances(a, b), slow)


def test_a_distribution_of_half_the_poses_has_full_precision_and_half_the_recall():
    """Sharp at one of two poses that look the same."""
    truth = torch.eye(3)

    def scorer(level, R, t):
        off = 3 - (R * truth).sum((-2, -1)) + 100 * (t - torch.tensor([0, 0, 0.6])).square().sum(-1)
        return -400.0 * off

    box = TranslationBox.from_view(torch.tensor([[0.0, 0, 0.6]]), 0.1)
    distribution = search(scorer, box, 4, 64).distribution(0, torch.zeros(3), 0.1)
    corners = np.array(list(itertools.product((-0.03, 0.03), (-0.02, 0.02), (-0.04, 0.04))))
    target = EvaluationObject(corners, 0.1, np.eye(4)[None])
    both = np.tile(np.eye(4), (2, 1, 1))
    both[:, 2, 3] = 0.6
    both[1, :3, :3] = np.diag([-1.0, -1, 1])
    got = ambiguity_metrics(distribution, both, target, K, 640)
    one = ambiguity_metrics(distribution, both[:1], target, K, 640)
    assert got["admissible"] == 2 and one["mpd_recall"] > 0.85
    assert (
        got["mpd_precision"] == pytest.approx(one["mpd_precision"]) and got["mpd_precision"] > 0.8
    )
    assert got["mpd_recall"] == pytest.approx(one["mpd_recall"] / 2, abs=0.06)
    assert got["msd_recall"] < 0.6 < one["msd_recall"]
