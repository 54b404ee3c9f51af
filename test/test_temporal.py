"""The temporal filter on the demo's mug: what it remembers, and that it gives up what is wrong."""

import numpy as np
import pytest

from benchmarks.accuracy import temporal
from benchmarks.accuracy.mug_views import MugViews
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.ros.pipeline.tracks import TemporalSettings


@pytest.fixture(scope="module")
def estimator():
    return Estimator.from_pretrained("models/demo_mug", "cpu", SearchSettings(beam=64))


@pytest.fixture(scope="module")
def views():
    return MugViews()


def values(scores, key):
    return np.array([getattr(score, key) for score in scores])


def test_a_glimpse_of_the_handle_is_remembered(estimator, views):
    """Hidden again, the pose is known better than without the filter."""
    frames = temporal.glimpse(views, hidden=6)[5:]
    alone = temporal.scores(estimator, frames, None)[-6:]
    filtered = temporal.scores(estimator, frames, TemporalSettings())[-6:]
    assert all(frame.view.handle_fraction < 0.01 for frame in frames[-6:])
    assert values(filtered, "gain").mean() > values(alone, "gain").mean() + 0.7
    assert values(filtered, "entropy").mean() < values(alone, "entropy").mean() - 0.2
    assert values(filtered, "near").mean() > values(alone, "near").mean() + 0.1


def test_a_turned_object_is_found_again(estimator, views):
    """In a moment by 120 degrees: two frames later the filter is as good as none."""
    frames = temporal.turned_in_sight(views, before=4, after=5)
    alone = temporal.scores(estimator, frames, None)[-3:]
    filtered = temporal.scores(estimator, frames, TemporalSettings())[-3:]
    assert values(filtered, "gain").mean() > values(alone, "gain").mean() - 1.5
    assert values(filtered, "near").mean() > values(alone, "near").mean() - 0.1


def test_a_filter_that_is_wrong_recovers(estimator, views):
    """The object was turned while the handle was hidden."""
    frames = temporal.turned_out_of_sight(views, hidden=4, after=8)
    alone = temporal.scores(estimator, frames, None)[-3:]
    filtered = temporal.scores(estimator, frames, TemporalSettings())[-3:]
    assert values(filtered, "gain").mean() > values(alone, "gain").mean() - 1.5
    assert values(filtered, "near").mean() > values(alone, "near").mean() - 0.1
