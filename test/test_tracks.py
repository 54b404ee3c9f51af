"""Tracks: which prior belongs to which target, and when it is forgotten."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.ros.pipeline.tracks import TemporalSettings, Tracks

DIAMETER = 0.12
A, B = np.array([-0.08, 0.0, 0.6]), np.array([0.08, 0.02, 0.7])


def found(position):
    """A distribution whose mean position is near a place, in a camera's frame."""
    position = torch.tensor(position).float()

    def score(level, rotations, translations):
        return -0.5 * ((translations - position) / 0.02).square().sum(-1)

    box = TranslationBox.from_view(position[None], DIAMETER)
    return search(score, box, 3, beam=32).distribution(0, diameter=DIAMETER)


@pytest.fixture(scope="module")
def at():
    return {"a": found(A), "b": found(B)}


def started(at, stamp=10.0, frame=None, **settings):
    tracks = Tracks(TemporalSettings(**settings))
    assert tracks.priors(["mug", "mug"], [A, B], stamp, frame) == [None, None]
    tracks.update([at["a"], at["b"]])
    return tracks


def test_targets_find_their_tracks_by_place(at):
    tracks = started(at)
    priors = tracks.priors(["mug", "mug"], [B + 0.01, A - 0.01], 10.1)
    assert [prior.last for prior in priors] == [at["b"], at["a"]]


def test_names_must_agree(at):
    assert started(at).priors(["cup"], [A], 10.1) == [None]


def test_a_new_place_is_a_new_object(at):
    """Between two tracks, more than half a diameter from both."""
    (none, known) = started(at).priors(["mug", "mug"], [(A + B) / 2, A], 10.1)
    assert none is None and known.last is at["a"]


def test_depth_is_matched_more_loosely_than_sideways(at):
    tracks = started(at)
    assert tracks.priors(["mug"], [1.2 * A], 10.1)[0].last is at["a"]
    assert tracks.priors(["mug"], [A - [0.1, 0, 0]], 10.1) == [None]


def test_one_track_serves_one_target(at):
    priors = started(at).priors(["mug", "mug"], [A + 0.02, A + 0.001], 10.1)
    assert priors[0] is None and priors[1].last is at["a"]


def test_what_is_missed_in_a_frame_comes_back(at):
    tracks = started(at)
    assert tracks.priors(["mug"], [A], 10.1)[0].last is at["a"]
    tracks.update([at["a"]])
    assert len(tracks) == 2
    assert tracks.priors(["mug"], [B], 10.2)[0].last is at["b"]
    tracks.update([None])  # nothing was found: the old one stays
    assert tracks.priors(["mug"], [B], 10.3)[0].last is at["b"]


def test_noise_grows_with_the_gap(at):
    settings = {"rotation_noise": 0.2, "translation_noise": 0.03, "outlier": 0.1}
    (prior,) = started(at, **settings).priors(["mug"], [A], 10.25)
    assert prior.rotation_noise == pytest.approx(0.1)
    assert prior.translation_noise == pytest.approx(0.015)
    assert prior.outlier == pytest.approx(1 - 0.9**0.25)


def test_old_tracks_are_forgotten(at):
    tracks = started(at, max_gap=1.0)
    assert tracks.priors(["mug"], [A], 11.0)[0] is not None
    assert tracks.priors(["mug"], [A], 11.01) == [None]
    assert len(tracks) == 0


def test_a_reset_clears(at):
    tracks = started(at)
    tracks.reset()
    assert tracks.priors(["mug"], [A], 10.1) == [None]


def test_frames_out_of_order_neither_use_nor_change_what_is_known(at):
    tracks = started(at)
    assert tracks.priors(["mug"], [A], 9.97) == [None]
    tracks.update([at["b"]])
    assert tracks.priors(["mug"], [A], 10.1)[0].last is at["a"]


def test_an_image_is_no_prior_of_itself(at):
    tracks = started(at)
    assert tracks.priors(["mug"], [A], 10.0) == [None]


def test_memory_is_bounded(at):
    tracks = started(at, max_gap=1000.0)
    for index in range(300):  # a detector that flickers between far places
        tracks.priors(["mug"], [A + [0, 10.0 * index, 0]], 11.0 + index)
        tracks.update([at["a"]])
    assert len(tracks) <= 64


def test_the_motion_of_the_camera_is_taken_out(at):
    """The camera flies half round the object and nothing in the world moves."""
    then, now = np.eye(4), np.eye(4)
    then[:3, 3] = [0.3, 0.1, 0.0]
    now[:3, :3] = Rotation.from_euler("y", 120, degrees=True).as_matrix()
    now[:3, 3] = then[:3, 3] + A - now[:3, :3] @ [0.02, 0.01, 0.5]
    tracks = started(at, frame=then)
    (prior,) = tracks.priors(["mug"], [[0.02, 0.01, 0.5]], 10.1, now)
    assert prior.last is at["a"]
    np.testing.assert_allclose(prior.new_from_old, np.linalg.inv(now) @ then, atol=1e-9)
    assert tracks.priors(["mug"], [[0.25, 0.01, 0.5]], 10.2, now) == [None]


def test_every_target_needs_an_answer(at):
    tracks = started(at)
    tracks.priors(["mug"], [A], 10.1)
    with pytest.raises(ValueError, match="2 distributions for 1 targets"):
        tracks.update([at["a"], at["b"]])


def test_no_targets_are_no_error(at):
    tracks = started(at)
    assert tracks.priors([], np.empty((0, 3)), 10.1) == []
    tracks.update([])
    assert len(tracks) == 2


@pytest.mark.parametrize(
    "change", [{"outlier": 2.0}, {"rotation_noise": -1.0}, {"max_gap": math.nan}]
)
def test_settings_that_cannot_be_are_refused(change):
    with pytest.raises(ValueError, match="numbers >= 0"):
        TemporalSettings(**change)
