"""Metrics against direct computation and known values, and temperature fitting."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import se3_grid, so3, so3_grid
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from training import calibrate
from training.data.source import EvaluationObject, Sample
from training.evaluation import metrics, pose_errors

K = np.array([[600.0, 0, 159.5], [0, 610.0, 119.5], [0, 0, 1]])
DIAMETER = 0.1
CENTER = np.array([0.01, 0.0, -0.02])
AT = np.array([0.0, 0.0, 1.5])


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
    return Sample("7", image, K, rotation, translation, np.zeros(4), None, 0.8, 0.1)


def random_pose(rng):
    return Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3) * 0.02 + [0, 0, 0.6]


# --- single estimates ---


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 0.1, 3.0, math.pi])
def test_rotation_error_is_to_the_nearest_equivalent(angle, target):
    rotation = Rotation.from_euler("ZYX", [0.3, 1.0, -0.4]).as_matrix()
    equivalents = rotation @ target.symmetries[:, :3, :3]
    turn = Rotation.from_rotvec([angle, 0, 0]).as_matrix()
    for equivalent in equivalents:
        estimate = turn @ equivalent
        errors = [Rotation.from_matrix(e.T @ estimate).magnitude() for e in equivalents]
        got = pose_errors.rotation_error(estimate, equivalents)
        assert got == pytest.approx(math.degrees(min(errors)), rel=1e-6)
        alone = pose_errors.rotation_error(estimate, equivalent[None])
        assert alone == pytest.approx(math.degrees(angle), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_vertex_errors_by_the_definitions(seed, sample):
    """MSSD, MSPD: least over symmetries of the largest over vertices. ADD: mean. ADI: nearest.

    Symmetries with a translation part: half a turn about an axis beside the origin.
    """
    rng = np.random.default_rng(seed)
    symmetries = np.stack([np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])])
    symmetries[1, :2, 3] = 0.02, -0.01
    vertices = rng.normal(size=(20, 3)) * 0.03
    target = EvaluationObject(vertices, 0.1, symmetries)
    (R, t), (R_true, t_true) = random_pose(rng), random_pose(rng)
    sample = replace(sample, rotation=R_true, translation=t_true)
    mssd, mspd = [], []
    for S in symmetries:
        space, plane = [], []
        for vertex in vertices:
            a = R @ vertex + t
            b = R_true @ (S[:3, :3] @ vertex + S[:3, 3]) + t_true
            space.append(np.linalg.norm(a - b))
            plane.append(np.linalg.norm((K @ a)[:2] / a[2] - (K @ b)[:2] / b[2]))
        mssd.append(max(space))
        mspd.append(max(plane))
    estimate = [R @ v + t for v in vertices]
    truth = [R_true @ v + t_true for v in vertices]
    add = np.mean([np.linalg.norm(a - b) for a, b in zip(estimate, truth, strict=True)])
    adi = np.mean([min(np.linalg.norm(a - b) for a in estimate) for b in truth])
    got = metrics.vertex_errors((R, t), sample, target)
    assert got["mssd"] == pytest.approx(min(mssd))
    assert got["mspd"] == pytest.approx(min(mspd) * 640 / 320)
    assert got["add"] == pytest.approx(add)
    assert got["adi"] == pytest.approx(adi)
    assert adi < add


def test_a_symmetric_estimate_has_no_error(sample, target):
    R = sample.rotation @ target.symmetries[1, :3, :3]
    got = metrics.vertex_errors((R, sample.translation), sample, target)
    assert max(got["mssd"], got["mspd"], got["adi"]) < 1e-9 < got["add"]


def test_without_a_mesh_there_are_no_vertex_errors(sample, target):
    bare = replace(target, vertices=np.empty((0, 3)))
    assert metrics.vertex_errors((np.eye(3), sample.translation), sample, bare) == {}


# --- distributions on SE(3) ---


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
    log_density = float(distribution.log_density(R, t))  # of the annotated pose only
    uniform = -math.log(math.pi**2 * float(pyramid.box.volume))
    assert got["id"] == "7" and got["inside_box"]
    assert got["uniform"] == pytest.approx(uniform)
    assert len(got["gain_per_level"]) == 3
    assert got["gain_per_level"][-1] == pytest.approx(log_density - uniform)
    assert got["evaluations"] == 576 + 2 * 30 * 64
    assert got["unexpanded_mass"] == pytest.approx(float(pyramid.unexpanded_mass), abs=1e-6)
    assert got["entropy"] == distribution.entropy()
    assert (got["visible_fraction"], got["handle_fraction"]) == (0.8, 0.1)
    # Expected angle to the nearest of the four equivalent truths.
    p = distribution.probabilities.double().numpy()
    angles = [
        Rotation.from_matrix(
            (sample.rotation @ S[:3, :3]).T @ distribution.rotations.double().numpy()
        ).magnitude()
        for S in target.symmetries
    ]
    assert got["spread"] == pytest.approx(math.degrees(p @ np.min(angles, axis=0)), rel=1e-3)
    # The truth's place in the order of densities says which regions hold it.
    for mass in np.linspace(0.02, 0.99, 30):
        region = distribution.credible_region(mass)
        assert (got["truth_rank"] < mass) == (log_density >= region.log_density_threshold)


def test_the_answer_is_the_heaviest_mode(sample, target):
    """Which is farther from the truth here than the other one."""
    near, far = (
        torch.from_numpy(Rotation.from_rotvec([angle, 0, 0]).as_matrix() @ sample.rotation)
        for angle in (0.05, 1.0)
    )

    def scorer(level, rotations, translations):
        angles = [so3.geodesic_angle(rotations.double(), peak) for peak in (near, far)]
        return (-10 * angles[0].square()).exp().add(2 * (-10 * angles[1].square()).exp()).log()

    sphere = torch.from_numpy(sample.rotation @ CENTER + sample.translation).float()[None]
    pyramid = search(scorer, TranslationBox.from_view(sphere, DIAMETER), 3, 300)
    got = metrics.image_metrics(pyramid, CENTER, DIAMETER, sample, target)
    distribution = pyramid.distribution(0, torch.tensor(CENTER).float(), DIAMETER)
    modes = distribution.modes()
    assert len(modes) > 1
    poses = [(m.rotation.double().numpy(), m.translation.double().numpy()) for m in modes]
    equivalents = sample.rotation @ target.symmetries[:, :3, :3]
    errors = [pose_errors.rotation_error(R, equivalents) for R, _ in poses]
    R, t = poses[0]
    assert got["mode_mass"] == max(mode.mass for mode in modes)
    assert (got["n_modes"], got["best_mode_error"]) == (len(modes), min(errors))
    assert got["rotation_error"] == errors[0] != min(errors)
    densest = distribution.densest()[0].double().numpy()
    assert got["densest_rotation_error"] == pose_errors.rotation_error(densest, equivalents)
    assert got["R"] == R.tolist() and got["t"] == t.tolist()
    # Errors of the bounding-sphere centre, along and across the ray to it.
    truth = sample.rotation @ CENTER + sample.translation
    error = R @ CENTER + t - truth
    ray = truth / np.linalg.norm(truth)
    assert got["depth_error"] == pytest.approx(abs(error @ ray), abs=1e-9)
    assert got["lateral_error"] == pytest.approx(np.linalg.norm(np.cross(error, ray)), abs=1e-9)
    assert got["mssd"] == metrics.vertex_errors((R, t), sample, target)["mssd"]


def test_too_flat_for_a_mode_the_densest_leaf_answers(sample, target, rough_scorer):
    pyramid = pyramid_of(sample, rough_scorer, sharpness=0.01, beam=1)
    got = metrics.image_metrics(pyramid, CENTER, 1e-6, sample, target)
    assert got["n_modes"] == 0
    assert got["rotation_error"] == got["densest_rotation_error"] == got["best_mode_error"]


def test_a_truth_outside_the_box_gets_the_documented_floor(sample, target, rough_scorer):
    pyramid = pyramid_of(sample, rough_scorer)
    away = replace(sample, translation=sample.translation + [0.5, 0, 0])
    got = metrics.image_metrics(pyramid, CENTER, DIAMETER, away, target)
    assert not got["inside_box"]
    assert got["gain_per_level"] == [metrics.OUTSIDE_FLOOR] * 3
    assert got["truth_rank"] == 1


def test_a_truth_that_is_called_impossible_is_not_flattered(sample, target, rough_scorer):
    """Inside the box the density counts however small: no floor hides an overconfident model."""
    pyramid = pyramid_of(sample, rough_scorer, sharpness=60.0)
    got = metrics.image_metrics(pyramid, CENTER, DIAMETER, sample, target)
    assert got["inside_box"] and got["gain_per_level"][-1] < metrics.OUTSIDE_FLOOR - 5


# --- distributions on SO(3) ---

KNOWN = TranslationBox.known(torch.tensor(AT).float()[None])


def rotation_sample(rotation, equivalents=None):
    image = np.zeros((64, 64, 3), np.uint8)
    return Sample("0", image, np.eye(3), rotation, AT, None, equivalents)


def on_so3(pyramid, rotation, equivalents):
    """Metrics where the translation is known, and the ceiling's log density."""
    target = EvaluationObject(np.empty((0, 3)), 1.0, np.eye(4)[None])
    sample = rotation_sample(rotation, equivalents)
    got = metrics.image_metrics(pyramid, np.zeros(3), 1.0, sample, target)
    return got, got["gain_per_level"][-1] + got["uniform"]


class PerfectScorer:
    """Gives every cell the share of the truths [M, 3, 3] that it holds."""

    def __init__(self, truths):
        self.truths = torch.from_numpy(truths)

    def __call__(self, level, rotations, translations):
        cells, counts = so3_grid.index(self.truths, level).unique(return_counts=True)
        query = so3_grid.index(rotations, level)
        place = torch.searchsorted(cells, query).clamp(max=len(cells) - 1)
        return torch.where(cells[place] == query, counts[place].double().log(), -torch.inf)


def turns_about_z(n):
    angles = np.arange(n) * 2 * np.pi / n
    return Rotation.from_euler("z", angles[:, None]).as_matrix()


UPSIDE_DOWN = np.diag([1.0, -1.0, -1.0])


@pytest.mark.parametrize(
    ("symmetries", "many", "ceiling"),
    [
        (np.eye(3)[None], None, 14.464),
        (Rotation.create_group("T").as_matrix(), None, 11.979),
        (Rotation.create_group("O").as_matrix(), None, 11.286),
        (Rotation.create_group("I").as_matrix(), None, 10.369),
        (turns_about_z(360), turns_about_z(3840), 8.513),
        (
            np.concatenate([turns_about_z(360), turns_about_z(360) @ UPSIDE_DOWN]),
            np.concatenate([turns_about_z(3840), turns_about_z(3840) @ UPSIDE_DOWN]),
            7.820,
        ),
    ],
    ids=["one pose", "tet", "cube", "ico", "cone", "cyl"],
)
def test_a_perfect_scorer_reaches_the_ceilings(symmetries, many, ceiling):
    """At seven levels, in the pi^2 convention; the ring of a cone fills 384 cells evenly."""
    rotation = Rotation.from_euler("ZYX", [0.3, 1.0, -0.4]).as_matrix()
    scorer = PerfectScorer(rotation @ (symmetries if many is None else many))
    got, log_likelihood = on_so3(search(scorer, KNOWN, 7, 512), rotation, rotation @ symmetries)
    assert log_likelihood == pytest.approx(ceiling, abs=0.02)
    assert got["uniform"] == pytest.approx(-math.log(math.pi**2))
    assert got["spread"] < 0.6  # the size of a cell
    assert got["rotation_error"] < 1.2
    assert got["truth_rank"] == 0
    assert "lateral_error" not in got and "mssd" not in got


def test_log_likelihood_is_that_of_the_integrated_density():
    """Every cell of level 3 expanded: the density is the scorer's over its integral on SO(3)."""
    rng = np.random.default_rng(0)
    peaks = Rotation.random(3, random_state=rng).as_matrix()
    equivalents = Rotation.random(50, random_state=rng).as_matrix()

    def density(rotations):  # [..., 3, 3]
        traces = np.einsum("kij,...ij->...k", peaks, rotations)
        return np.exp(2 * traces).sum(-1)

    def scorer(level, rotations, translations):
        """Exact at the finest level; what the coarser levels say does not matter."""
        return torch.from_numpy(np.log(density(rotations.double().numpy())))

    pyramid = search(scorer, KNOWN, 4, 4608)
    grid = so3_grid.rotations(torch.arange(so3_grid.cell_count(3)), 3).double().numpy()
    integral = density(grid).mean()  # Haar measure of total 1
    cells = so3_grid.index(torch.from_numpy(equivalents), 3).numpy()
    expected = np.log(density(grid[cells]) / integral).mean()
    got, _ = on_so3(pyramid, equivalents[0], equivalents)
    assert got["gain_per_level"][-1] == pytest.approx(expected, abs=1e-4)
    # And the density itself, sampled at random, integrates to one.
    anywhere = Rotation.random(4000, random_state=rng).as_matrix()
    gains = [on_so3(pyramid, R, R[None])[0]["gain_per_level"][-1] for R in anywhere[:5]]
    at = torch.from_numpy(anywhere).float()[None]
    position = torch.tensor(AT).float().expand(1, 4000, 3)
    per_level = pyramid.log_density_per_level(at, position)[0, :, -1] + math.log(math.pi**2)
    assert gains == pytest.approx(per_level[:5].tolist(), abs=1e-5)
    assert float(per_level.exp().mean()) == pytest.approx(1, abs=0.1)


def test_all_equivalent_truths_count_where_the_translation_is_known(rough_scorer):
    """The image's own equivalents, or else the object's symmetries."""
    pyramid = search(rough_scorer(), KNOWN, 3, 100)
    rng = np.random.default_rng(1)
    equivalents = Rotation.random(7, random_state=rng).as_matrix()
    alone = [on_so3(pyramid, R, R[None])[0]["gain_per_level"] for R in equivalents]
    got, _ = on_so3(pyramid, equivalents[0], equivalents)
    assert got["gain_per_level"] == pytest.approx(np.mean(alone, axis=0).tolist(), abs=1e-5)
    symmetric = EvaluationObject(np.empty((0, 3)), 1.0, transforms(equivalents[0].T @ equivalents))
    sample = rotation_sample(equivalents[0])
    assert metrics.image_metrics(pyramid, np.zeros(3), 1.0, sample, symmetric)[
        "gain_per_level"
    ] == pytest.approx(got["gain_per_level"], abs=1e-5)


# --- summaries ---


def record(**changes):
    values = {
        "uniform": 2.0,
        "gain_per_level": [1.0, 10.0],
        "rotation_error": 4.0,
        "densest_rotation_error": 5.0,
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
        "visible_fraction": 1.0,
        "n_modes": 1,
        "unexpanded_mass": 0.01,
        "evaluations": 1000,
        "truth_rank": 0.2,
    }
    return values | changes


def test_summary_by_hand(target):
    records = [
        record(truth_rank=0.93, entropy=-20.0),
        record(
            gain_per_level=[1.0, 14.0],
            uniform=3.0,
            rotation_error=12.0,
            lateral_error=0.004,
            n_modes=3,
            visible_fraction=0.5,
        ),
        record(
            gain_per_level=[4.0, 6.0],
            rotation_error=40.0,
            adi=0.5,
            mssd=1,
            mspd=60,
            visible_fraction=0.7,
            entropy=-15.0,
        ),
    ]
    got = metrics.summarise(records, target, DIAMETER)
    root = math.sqrt(3)
    assert got["images"] == 3
    assert got["ll_uniform_zero"] == pytest.approx([10.0, np.std([10, 14, 6], ddof=1) / root])
    assert got["ll_pi2"] == pytest.approx([37 / 3, np.std([12, 17, 8], ddof=1) / root])
    assert got["ll_of_uniform_pi2"] == pytest.approx(7 / 3)
    assert got["ll_uniform_zero_per_level"][0] == pytest.approx([2.0, root / root])
    assert got["ll_uniform_zero_per_level"][1] == got["ll_uniform_zero"]
    assert got["ll_pi2_per_level"][0] == pytest.approx(
        [(3 + 4 + 6) / 3, np.std([3, 4, 6], ddof=1) / root]
    )
    assert got["rotation_median_deg"] == 12.0 and got["densest_rotation_median_deg"] == 5.0
    assert [got[f"acc_{a}"] for a in (5, 10, 15, 30)] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert got["lateral_median_m"] == 0.002
    assert got["lateral_median_of_diameter"] == pytest.approx(0.02)
    assert got["add_recall_0.1d"] == pytest.approx(2 / 3)  # symmetric: ADI counts
    # BOP: mean over thresholds 5 to 50 % of the diameter, and 5 to 50 px.
    share = sum(0.05 * k * target.diameter > 0.01 for k in range(1, 11)) / 10
    assert got["mssd_recall"] == pytest.approx((2 * share + 0) / 3)
    assert got["mspd_recall"] == pytest.approx(2 * 0.8 / 3)
    assert got["coverage"] == pytest.approx({"0.5": 2 / 3, "0.8": 2 / 3, "0.9": 2 / 3, "0.95": 1})
    assert got["modes_mean"] == pytest.approx(5 / 3)
    assert got["entropy_visible_spearman"] == pytest.approx(-1)
    json.dumps(got, allow_nan=False)


def test_summary_of_one_image(target):
    got = metrics.summarise([record()], target, DIAMETER)
    assert got["ll_uniform_zero"] == [10.0, None]
    assert got["entropy_visible_spearman"] is None


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


def test_a_level_that_few_images_reach_follows_the_one_above():
    pair = (torch.tensor([0.9, 0.1]).log(), 0)  # alone it would be at the bound
    found = [[pair, pair, pair if n < 10 else None, pair if n < 9 else None] for n in range(20)]
    temperatures, reached = calibrate._fitted([1.0, 2.0, 3.0, 4.0], found)
    assert reached == [20, 20, 10, 9]
    np.testing.assert_allclose(temperatures[:3], [0.3, 0.6, 0.9], rtol=1e-3)
    assert temperatures[3] == temperatures[2]


def test_the_true_cells(sample, rough_scorer):
    """Where a level scored the truth's cell its place in the list, else nothing."""
    pyramid = pyramid_of(sample, rough_scorer)
    generator = torch.Generator().manual_seed(0)
    R = so3.random_rotations(40, generator)
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
