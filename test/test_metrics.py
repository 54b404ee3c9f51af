"""Metrics against direct computation, and temperature fitting against a known temperature."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import se3_grid, so3_grid
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from training import calibrate, metrics
from training.data.samples import EvaluationObject, Sample

K = np.array([[600.0, 0, 159.5], [0, 610.0, 119.5], [0, 0, 1]])
DIAMETER = 0.1
CENTER = np.array([0.01, 0.0, -0.02])


def transforms(rotations):
    result = np.tile(np.eye(4), (len(rotations), 1, 1))
    result[:, :3, :3] = rotations
    return result


@pytest.fixture
def target():
    """A cuboid with its three half turns."""
    corners = np.array(list(np.ndindex(2, 2, 2))) - 0.5
    vertices = corners * [0.04, 0.05, 0.06]
    half_turns = Rotation.create_group("D2").as_matrix()
    return EvaluationObject(
        vertices, float(np.linalg.norm([0.04, 0.05, 0.06])), transforms(half_turns)
    )


@pytest.fixture
def sample():
    rotation = Rotation.from_euler("ZYX", [0.3, 1.0, -0.4]).as_matrix()
    translation = np.array([0.05, -0.03, 0.55])
    image = np.zeros((240, 320, 3), np.uint8)
    return Sample(7, image, K, np.zeros(4), rotation, translation, 0.8, 0.1)


# --- single estimates ---


def test_rotation_error_is_to_the_nearest_equivalent(sample, target):
    for i, symmetry in enumerate(target.symmetries[:, :3, :3]):
        turn = Rotation.from_rotvec([0.1 * (i + 1), 0, 0]).as_matrix()
        estimate = turn @ sample.rotation @ symmetry
        error = metrics.rotation_error(estimate, sample.rotation, target.symmetries)
        assert error == pytest.approx(math.degrees(0.1 * (i + 1)))
        plain = metrics.rotation_error(estimate, sample.rotation, np.eye(4)[None])
        assert plain == pytest.approx(
            math.degrees(Rotation.from_matrix(sample.rotation.T @ estimate).magnitude())
        )


def test_vertex_errors_by_the_definition(sample, target):
    """MSSD, MSPD: least over symmetries of the largest over vertices. ADD: mean. ADI: nearest."""
    R = Rotation.from_euler("z", 0.1).as_matrix() @ sample.rotation @ target.symmetries[2, :3, :3]
    t = sample.translation + [0.003, -0.002, 0.01]
    mssd, mspd = [], []
    for S in target.symmetries:
        space, plane = [], []
        for vertex in target.vertices:
            a = R @ vertex + t
            b = sample.rotation @ (S[:3, :3] @ vertex + S[:3, 3]) + sample.translation
            space.append(np.linalg.norm(a - b))
            pixel_a, pixel_b = (K @ a)[:2] / a[2], (K @ b)[:2] / b[2]
            plane.append(np.linalg.norm(pixel_a - pixel_b))
        mssd.append(max(space))
        mspd.append(max(plane))
    estimate = [R @ v + t for v in target.vertices]
    truth = [sample.rotation @ v + sample.translation for v in target.vertices]
    add = np.mean([np.linalg.norm(a - b) for a, b in zip(estimate, truth, strict=True)])
    adi = np.mean([min(np.linalg.norm(a - b) for a in estimate) for b in truth])
    got = metrics.vertex_errors(R, t, sample, target)
    assert got["mssd"] == pytest.approx(min(mssd))
    assert got["mspd"] == pytest.approx(min(mspd) * 640 / 320)
    assert got["add"] == pytest.approx(add)
    assert got["adi"] == pytest.approx(adi)
    assert adi < add  # the estimate is half a turn away


def test_a_symmetric_estimate_has_no_error(sample, target):
    R = sample.rotation @ target.symmetries[1, :3, :3]
    got = metrics.vertex_errors(R, sample.translation, sample, target)
    assert max(got["mssd"], got["mspd"], got["adi"]) < 1e-9 < got["add"]


# --- distributions ---


def pyramid_of(sample, rough_scorer, center=CENTER, sharpness=2.0, depth=3, beam=30):
    """A rough pyramid whose box is 8 mm off the truth."""
    sphere = sample.rotation @ center + sample.translation
    estimate = torch.tensor(sphere + [0.008, -0.004, 0.02]).float()[None]
    box = TranslationBox.from_view(estimate, DIAMETER)
    return search(rough_scorer(sharpness), box, depth, beam)


def test_image_metrics(sample, target, rough_scorer):
    pyramid = pyramid_of(sample, rough_scorer)
    got = metrics.image_metrics(pyramid, CENTER, DIAMETER, sample, target)
    distribution = pyramid.distribution(0, torch.tensor(CENTER).float(), DIAMETER)
    R, t = (torch.from_numpy(x).float()[None] for x in (sample.rotation, sample.translation))
    log_density = float(distribution.log_density(R, t))
    uniform = -math.log(math.pi**2 * float(pyramid.box.volume))
    assert got["id"] == 7 and got["inside_box"]
    assert got["uniform"] == pytest.approx(uniform)
    assert got["gain"] == pytest.approx(log_density - uniform)
    assert len(got["gain_per_level"]) == 3
    assert got["gain_per_level"][-1] == pytest.approx(got["gain"])
    # The mode's errors, of the bounding-sphere centre, along and across the ray to it.
    R_mode, t_mode = (x.double().numpy() for x in distribution.mode())
    truth = sample.rotation @ CENTER + sample.translation
    error = R_mode @ CENTER + t_mode - truth
    ray = truth / np.linalg.norm(truth)
    assert got["depth_error"] == pytest.approx(abs(error @ ray), abs=1e-7)
    assert got["lateral_error"] == pytest.approx(np.linalg.norm(np.cross(error, ray)), abs=1e-7)
    expected = metrics.rotation_error(R_mode, sample.rotation, target.symmetries)
    assert got["rotation_error"] == pytest.approx(expected)
    assert got["mssd"] == metrics.vertex_errors(R_mode, t_mode, sample, target)["mssd"]
    modes = distribution.modes()
    errors = [
        metrics.rotation_error(m.rotation.double().numpy(), sample.rotation, target.symmetries)
        for m in modes
    ]
    assert got["n_modes"] == len(modes)
    assert got["best_mode_error"] == pytest.approx(min(errors, default=180.0))
    # Expected angle to the nearest of the four equivalent truths.
    p = distribution.probabilities.double().numpy()
    angles = [
        Rotation.from_matrix(
            (sample.rotation @ S[:3, :3]).T @ distribution.rotations.double().numpy()
        ).magnitude()
        for S in target.symmetries
    ]
    assert got["spread"] == pytest.approx(math.degrees(p @ np.min(angles, axis=0)), rel=1e-3)
    assert got["evaluations"] == 576 + 2 * 30 * 64
    assert got["unexpanded_mass"] == pytest.approx(float(pyramid.unexpanded_mass), abs=1e-6)
    # The truth's place in the order of densities.
    rank = p[distribution.log_densities.numpy() >= log_density].sum()
    assert got["truth_rank"] == pytest.approx(rank, abs=1e-5)
    for mass in metrics.COVERAGES:
        region = distribution.credible_region(mass)
        assert got["covered"][str(mass)] == (log_density >= region.log_density_threshold)
    assert set(got["covered"].values()) <= {True, False}


def test_a_truth_outside_the_box_gets_the_documented_floor(sample, target, rough_scorer):
    pyramid = pyramid_of(sample, rough_scorer)
    away = replace(sample, translation=sample.translation + [0.5, 0, 0])
    got = metrics.image_metrics(pyramid, CENTER, DIAMETER, away, target)
    assert not got["inside_box"]
    assert got["gain"] == metrics.OUTSIDE_FLOOR
    assert got["gain_per_level"] == [metrics.OUTSIDE_FLOOR] * 3
    assert not any(got["covered"].values()) and got["truth_rank"] > 1


def test_a_truth_that_is_called_impossible_is_not_flattered(sample, target, rough_scorer):
    """Inside the box the density counts however small: no floor hides an overconfident model."""
    pyramid = pyramid_of(sample, rough_scorer, sharpness=60.0)
    got = metrics.image_metrics(pyramid, CENTER, DIAMETER, sample, target)
    assert got["inside_box"] and got["gain"] < metrics.OUTSIDE_FLOOR - 5


def record(**changes):
    values = {
        "gain": 10.0,
        "uniform": 2.0,
        "gain_per_level": [1.0, 10.0],
        "rotation_error": 4.0,
        "best_mode_error": 3.0,
        "lateral_error": 0.002,
        "depth_error": 0.01,
        "add": 0.005,
        "adi": 0.004,
        "mssd": 0.01,
        "mspd": 12.0,
        "inside_box": True,
        "spread": 5.0,
        "entropy": -10.0,
        "axis_entropy": 0.5,
        "n_modes": 1,
        "unexpanded_mass": 0.01,
        "evaluations": 1000,
        "covered": {str(m): True for m in metrics.COVERAGES},
    }
    return values | changes


def test_summary_by_hand(target):
    records = [
        record(),
        record(gain=14.0, uniform=3.0, rotation_error=12.0, lateral_error=0.004, n_modes=3),
        record(gain=6.0, gain_per_level=[4.0, 6.0], rotation_error=40.0, adi=0.5, mssd=1, mspd=60),
    ]
    records[0]["covered"]["0.9"] = False
    got = metrics.summarise(records, target, DIAMETER)
    assert got["images"] == 3
    assert got["ll_uniform_zero"] == pytest.approx(
        [10.0, np.std([10, 14, 6], ddof=1) / math.sqrt(3)]
    )
    assert got["ll_pi2"] == pytest.approx((12 + 17 + 8) / 3)
    assert got["ll_of_uniform_box_pi2"] == pytest.approx(7 / 3)
    assert got["ll_uniform_zero_per_level"] == pytest.approx([2.0, 26 / 3])
    assert got["rotation_median_deg"] == 12.0
    assert [got[f"acc_{a}"] for a in (5, 10, 15, 30)] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert got["lateral_median_m"] == 0.002
    assert got["lateral_median_of_diameter"] == pytest.approx(0.02)
    assert got["add_recall_0.1d"] == pytest.approx(2 / 3)  # symmetric: ADI counts
    # BOP: mean over thresholds 5 to 50 % of the diameter, and 5 to 50 px.
    share = sum(0.05 * k * target.diameter > 0.01 for k in range(1, 11)) / 10
    assert got["mssd_recall"] == pytest.approx((2 * share + 0) / 3)
    assert got["mspd_recall"] == pytest.approx(2 * 0.8 / 3)
    assert got["coverage"]["0.9"] == pytest.approx(2 / 3) and got["coverage"]["0.5"] == 1
    assert got["modes_mean"] == pytest.approx(5 / 3)
    assert metrics.summarise([], target, DIAMETER) == {}


def test_summary_of_one_image(target):
    got = metrics.summarise([record()], target, DIAMETER)
    assert got["ll_uniform_zero"][0] == 10.0 and math.isnan(got["ll_uniform_zero"][1])


# --- calibration ---


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_known_temperature_is_found(temperature):
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(1500):
        logits = torch.from_numpy(rng.normal(size=200) * 2)
        p = (logits / temperature).softmax(0).numpy()
        pairs.append((logits.log_softmax(0), int(rng.choice(200, p=p))))
    assert calibrate._fit(pairs) == pytest.approx(temperature, rel=0.06)


def test_no_data_no_temperature():
    assert calibrate._fit([]) == 1.0


def test_the_true_cells(sample, rough_scorer):
    """Where a level scored the truth's cell its place in the list, else nothing."""
    pyramid = pyramid_of(sample, rough_scorer)
    generator = torch.Generator().manual_seed(0)
    R = so3_grid.random_rotations(40, generator)
    t = pyramid.box.from_coordinates(torch.rand((1, 40, 3), generator=generator))[0]
    found_at = [0, 0, 0]
    for n in range(40):
        cells = calibrate._true_cells(pyramid, R[n], t[n])
        for r, found in enumerate(cells):
            level = pyramid.levels[r]
            true = se3_grid.containing(R[n][None, None], t[n][None, None], pyramid.box, r)
            if found is None:
                assert not bool((level.cells.keys() == true.keys()).any())
                continue
            found_at[r] += 1
            log_p, place = found
            assert torch.equal(log_p, level.log_probability[0])
            assert level.cells.keys()[0, place] == true.keys()[0, 0]
    assert found_at[0] == 40 > found_at[1] > 0


def test_truths_outside_the_box_teach_nothing(sample, rough_scorer):
    """Their keys may be those of cells inside."""
    pyramid = pyramid_of(sample, rough_scorer)
    for g in ([1.2, 0.5, 0.5], [0.5, -0.1, 0.5], [0.5, 0.5, 1.01]):
        t = pyramid.box.from_coordinates(torch.tensor(g).view(1, 1, 3))[0, 0]
        assert calibrate._true_cells(pyramid, torch.eye(3), t) == [None] * 3
