"""Questions to a distribution, against its samples, plain twins and exact answers."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import _integration, se3_grid, so3, so3_grid
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.questions import Targets, probability_within, success
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox

ESTIMATE = torch.tensor([[0.05, -0.02, 0.6]])
VIEW = TranslationBox.from_view(ESTIMATE, 0.1)
CENTER = torch.tensor([0.01, -0.03, 0.02])
ANY = math.inf


@pytest.fixture(scope="module", params=["sheared box", "known translation"])
def rough(request, rough_scorer):
    """Leaves at three levels, none small, of an object whose centre is not its origin."""
    box = VIEW if request.param == "sheared box" else TranslationBox.known(ESTIMATE)
    return search(rough_scorer(4.0), box, depth=3, beam=30).distribution(0, CENTER, 0.1)


@pytest.fixture(scope="module")
def samples(rough):
    return rough.sample(20_000, torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def flat():
    zeros = lambda level, R, t: torch.zeros(t.shape[:2])  # noqa: E731
    return search(zeros, VIEW, 1).distribution(0, CENTER, 0.1)


def single_leaf(depth, cell=7):
    """All mass in one cell."""

    def scorer(level, rotations, translations):
        logits = torch.full(rotations.shape[:2], -60.0)
        logits[:, cell] = 0
        return logits

    return search(scorer, VIEW, depth, beam=1).distribution(0, CENTER, 0.1)


def some_targets(generator):
    """Large and small, flat and long, with a free axis, all axes, any distance."""
    n = 12
    lengths = 0.08 + 0.3 * torch.rand((n, 3), generator=generator)
    angles = 1.0 + 1.5 * torch.rand((n, 3), generator=generator)
    for i in range(3, 6):
        angles[i, i - 3] = math.pi
    angles[6], lengths[7], lengths[8, 1] = ANY, ANY, ANY
    offsets = 0.03 * torch.randn((n, 3), generator=generator)
    return Targets(so3.random_rotations(n, generator), offsets, lengths, angles)


def reached(targets, planned_for, R, t):
    """A plain twin for samples [M]: whether each target is reached, bool [M, N]."""
    to_numpy = lambda x: x.double().numpy()  # noqa: E731
    R, t, R_plan, t_plan = map(to_numpy, (R, t, *planned_for))
    columns = []
    for i in range(len(targets)):
        offset = to_numpy(targets.translations[i])
        tool = R_plan @ offset + t_plan
        off = np.einsum("mji,mj->mi", R, tool - t) - offset
        turned = Rotation.from_matrix(R.transpose(0, 2, 1) @ R_plan)
        angles = to_numpy(targets.rotation_tolerances[i])
        if (angles >= math.pi).sum() == 1:  # swing-twist decomposition by quaternions
            axis = int(angles.argmax())
            twist = np.zeros((len(t), 4))
            twist[:, [axis, 3]] = turned.as_quat()[:, [axis, 3]]
            turned = turned * Rotation.from_quat(twist).inv()
        vector = turned.as_rotvec() / np.where(angles >= math.pi, np.inf, angles)
        near = ((off / to_numpy(targets.translation_tolerances[i])) ** 2).sum(1) <= 1
        columns.append(near & ((vector**2).sum(1) <= 1))
    return np.stack(columns, 1)


def assert_shares(found, hits):
    """Shares of samples [M, N], to four standard deviations and the points' own error."""
    found, shares = np.asarray(found), hits.mean(0)
    error = np.sqrt(np.maximum(shares * (1 - shares), 1e-5) / len(hits))
    np.testing.assert_array_less(np.abs(found - shares), 4 * error + 0.002)


def test_success_is_the_share_of_samples(rough, samples, generator):
    targets = some_targets(generator)
    planned_for = rough.densest()
    answer = rough.success(targets, planned_for)
    hits = reached(targets, planned_for, *samples)
    assert 0.05 < hits.mean() < 0.9
    assert_shares(answer.probabilities, hits)
    assert int(answer.best) == int(answer.probabilities.argmax())
    few = Targets(*(part[[0, 1, 3]] for part in vars(targets).values()))
    assert_shares(rough.success(few, planned_for).uncovered, ~hits[:, [0, 1, 3]].any(1))


@pytest.mark.parametrize("size", [0.05, 0.3, 1.0])
def test_tolerances_smaller_than_a_cell(size, generator):
    """Probability = density x volume, for ellipsoids within a single leaf of level 0 or 1."""
    for depth in (1, 2):
        leaf = single_leaf(depth)
        R, t = leaf.densest()
        reach = (
            size * torch.tensor([0.01, 0.02, 0.015]) / depth,
            size * torch.full((3,), 0.3) / depth,
        )
        targets = Targets(torch.eye(3)[None], CENTER[None], reach[0][None], reach[1][None])
        a = float(reach[1][0])
        volume = 4 / 3 * math.pi * float(reach[0].double().prod())
        volume *= math.pi * (a - math.sin(a))  # of the rotations, in the pi^2 measure
        expected = volume * float(leaf.log_densities[0].exp())
        found = float(leaf.success(targets, (R, t)).probabilities[0])
        assert found == pytest.approx(expected, rel=0.03)
        hits = reached(targets, (R, t), *leaf.sample(5_000, generator))
        assert_shares([found], hits)


def test_small_targets_that_overlap_count_once(generator):
    """Two of the same, one apart: what is uncovered is right where points of the sets decide."""
    leaf = single_leaf(1)
    R, t = leaf.densest()
    shift = torch.tensor([[0.0, 0, 0], [0, 0, 0], [0.005, 0, 0], [0.1, 0, 0]])
    lengths = torch.tensor([0.01, 0.01, 0.01, 0.08])
    angles = torch.tensor([0.4, 0.4, 0.4, 2.5])
    n = len(shift)
    targets = Targets(
        torch.eye(3).expand(n, 3, 3),
        CENTER + shift,
        *(x[:, None].expand(n, 3) for x in (lengths, angles)),
    )
    planned_for = R.expand(n, 3, 3), t - shift @ R.mT * torch.tensor([0, 0, 2, 0.0])[:, None]
    small = _integration._small_for(leaf, _sets_of(leaf, targets, planned_for))
    assert small[:3].all() and not small[3].any()
    answer = leaf.success(targets, planned_for)
    R_s, t_s = leaf.sample(60_000, generator)
    hits = np.concatenate(
        [
            reached(
                Targets(*(part[[i]] for part in vars(targets).values())),
                (R, planned_for[1][i]),
                R_s,
                t_s,
            )
            for i in range(n)
        ],
        1,
    )
    assert_shares(answer.probabilities, hits)
    assert_shares(1 - answer.uncovered, hits.any(1))
    without = Targets(*(part[:3] for part in vars(targets).values()))
    answer = leaf.success(without, tuple(part[:3] for part in planned_for))
    share = hits[:, :3].any(1).mean()
    assert 1 - float(answer.uncovered) == pytest.approx(share, rel=0.15)


def _sets_of(distribution, targets, planned_for):
    from spyropose_ros.core.questions import tolerance_sets

    return tolerance_sets(targets, planned_for, distribution)


def test_leaves_decided_as_a_whole_agree_with_their_points(rough, generator, monkeypatch):
    """The fast path against all points of all leaves."""
    monkeypatch.setattr(_integration, "_LEAST_MASS", 2.0)
    targets = some_targets(generator)
    sets = _sets_of(rough, targets, rough.densest())
    points, leaves = rough.points, _integration._Balls.of(rough)
    every = torch.stack(
        [sets.contains(i, points.rotations, points.translations) for i in range(len(sets))], 1
    )
    found, union = _integration.probabilities(rough, sets)
    torch.testing.assert_close(found, points.weights @ every.double(), atol=1e-12, rtol=0)
    assert union == pytest.approx(float(points.weights @ every.any(1).double()), abs=1e-12)
    decided = 0
    for i in range(len(sets)):
        inside, border = leaves.classify(sets, i)
        assert not bool((inside & border).any())
        decided += int((~border).sum())
    assert decided > 0.3 * len(rough) * len(sets)


@pytest.mark.parametrize("axis", [0, 1, 2, None])
def test_points_fill_the_sets(axis, flat, generator):
    """Their volumes sum to the set's: its share of uniform poses; and all are inside."""
    angles = torch.tensor([[0.5, 0.8, 1.1]])
    if axis is not None:
        angles[0, axis] = ANY
    lengths = torch.tensor([[0.02, 0.03, 0.01]])
    targets = Targets(torch.eye(3)[None], CENTER[None], lengths, angles)
    planned_for = flat.densest()
    sets = _sets_of(flat, targets, planned_for)
    R, t, volumes = sets.fill(0, 4096, 3)
    assert reached(targets, planned_for, R, t).mean() > 0.999
    assert float(volumes.sum()) <= sets.volume(0, 3) * (1 + 1e-9)
    R, t = flat.sample(40_000, generator)
    # Of the rotations alone: samples at the planned position.
    t = planned_for[1] + planned_for[0] @ CENTER - R @ CENTER
    share = reached(targets, planned_for, R, t).mean()
    rotations = float(sets.fill(0, 4096, 0)[2].sum())
    assert rotations / math.pi**2 == pytest.approx(share, rel=0.05)
    ellipsoid = 4 / 3 * math.pi * float(lengths.double().prod())
    assert float(volumes.sum()) == pytest.approx(rotations * ellipsoid, rel=1e-6)


def test_a_turn_about_z_is_free(flat):
    """An angle of pi about z leaves the swing: the share of directions near the planned one."""
    R, t = flat.densest()
    angles = torch.tensor([[0.7, 0.7, math.pi]])
    targets = Targets(torch.eye(3)[None], torch.zeros(1, 3), torch.full((1, 3), ANY), angles)
    found = float(flat.success(targets, (R, t)).probabilities[0])
    assert found == pytest.approx((1 - math.cos(0.7)) / 2, abs=0.002)


@pytest.mark.parametrize("angle", [0.3, 1.2, 3.0, math.pi])
def test_probability_within_an_angle_of_uniform_rotations(flat, angle):
    R, t = flat.densest()
    found = flat.probability_within(R, t, angle, ANY)
    assert found.shape == ()
    assert float(found) == pytest.approx((angle - math.sin(angle)) / math.pi, abs=0.002)


def test_probability_within_with_symmetries(rough, samples):
    """A quarter turn about an axis beside the origin; any of the equivalent poses is near."""
    turns = Rotation.from_rotvec(np.pi / 2 * np.arange(4)[:, None] * [0, 0, 1.0]).as_matrix()
    symmetries = np.tile(np.eye(4), (4, 1, 1))
    symmetries[:, :3, :3] = turns
    symmetries[:, :3, 3] = CENTER.numpy() - turns @ CENTER.numpy()
    R, t = rough.poses(slice(5))
    found = rough.probability_within(R, t, 0.8, 0.05, torch.from_numpy(symmetries))
    S = torch.from_numpy(symmetries).float()
    hits = np.zeros((len(samples[0]), 5), bool)
    for i in range(5):
        for j in range(4):
            near = so3.geodesic_angle(samples[0], R[i] @ S[j, :3, :3]) <= 0.8
            near &= (samples[1] - (R[i] @ S[j, :3, 3] + t[i])).norm(dim=1) <= 0.05
            hits[:, i] |= near.numpy()
    assert found.shape == (5,)
    assert_shares(found, hits)
    one = probability_within(rough, R[0], t[0], 0.8, 0.05)
    assert float(one) <= float(found[0])


def test_several_distributions_at_once(rough, flat, generator):
    targets = Targets(*(part[:3] for part in vars(some_targets(generator)).values()))
    together = success([rough, flat], targets)
    assert together.probabilities.shape == (2, len(targets))
    for b, distribution in enumerate((rough, flat)):
        alone = distribution.success(targets)
        assert torch.equal(together.probabilities[b], alone.probabilities)
        assert int(together.best[b]) == int(alone.best)
        assert float(together.uncovered[b]) == float(alone.uncovered)
    planned = success([rough, flat], targets, rough.mode())
    assert torch.equal(planned.probabilities[0], together.probabilities[0])


def test_tools_and_objects_go_with_each_other(generator):
    targets = some_targets(generator)
    R, t = so3.random_rotations(1, generator)[0], torch.tensor([0.1, 0.2, 0.7])
    tools = targets.at(R, t)
    rotations, translations = targets.reached_from(*tools)
    torch.testing.assert_close(rotations, R.expand(len(targets), 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(translations, t.expand(len(targets), 3), atol=1e-6, rtol=0)
    first = targets.reached_from(tools[0][0], tools[1][0])  # one place for all
    again = targets.at(*first)
    torch.testing.assert_close(again[0][5], tools[0][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(again[1][5], tools[1][0], atol=1e-6, rtol=0)


# --- what carries the answers ---


def test_points_are_spread_over_the_leaves_by_mass(rough):
    points = rough.points
    mass = torch.bincount(points.leaf, points.weights, minlength=len(rough))
    torch.testing.assert_close(mass, rough.probabilities.double())
    assert float(points.weights.max()) <= 2.0**-16 + 1e-12
    own = rough.leaf_of(points.rotations, points.translations) == points.leaf
    assert float(own.double().mean()) > 0.999  # float32 at the borders


def test_the_middle_of_a_leaf_is_its_pose(rough):
    leaves = torch.arange(0, len(rough), 7)
    middle = torch.full((len(leaves), 3 + rough.box.axes), 0.5, dtype=torch.float64)
    for found, pose in zip(rough.poses_within(leaves, middle), rough.poses(leaves), strict=True):
        torch.testing.assert_close(found, pose, atol=1e-6, rtol=0)


@pytest.mark.parametrize("level", range(8))
def test_nothing_in_a_cell_is_farther_than_its_reach(level, generator):
    index = torch.randint(so3_grid.cell_count(level), (4000,), generator=generator)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    at = corners[torch.randint(8, (len(index),), generator=generator)]
    centre = so3_grid.rotations(index, level, torch.float64)
    angle = so3.geodesic_angle(centre, so3_grid.rotations(index, level, torch.float64, at))
    reach = float(so3_grid.cell_reach(torch.tensor(level)))
    assert 0.5 * reach < float(angle.max()) <= reach


def test_the_log_volume_of_a_known_translation_is_of_rotations():
    assert float(se3_grid.log_volume(TranslationBox.known(ESTIMATE), 0)) == pytest.approx(
        math.log(math.pi**2 / 72)
    )


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rotations": torch.eye(3)}, "rotations"),
        ({"rotations": 2 * torch.eye(3)[None]}, "rotation matrices"),
        ({"rotations": torch.zeros((0, 3, 3))}, "at least one"),
        ({"translations": torch.zeros(2, 3)}, r"\[N, 3\]"),
        ({"translations": torch.full((1, 3), math.nan)}, "finite"),
        ({"translation_tolerances": torch.zeros(1, 3)}, "positive"),
        ({"rotation_tolerances": torch.tensor([[0.1, math.nan, 0.1]])}, "positive"),
        ({"rotation_tolerances": torch.tensor([[0.1, 4.0, 4.0]])}, "about one axis or all three"),
    ],
)
def test_impossible_targets_are_refused(change, reason):
    good = {
        "rotations": torch.eye(3)[None],
        "translations": torch.zeros(1, 3),
        "translation_tolerances": torch.full((1, 3), 0.01),
        "rotation_tolerances": torch.full((1, 3), 0.1),
    }
    Targets(**good)
    with pytest.raises(InputError, match=reason):
        Targets(**(good | change))


def test_impossible_questions_are_refused(flat, generator):
    R, t = flat.densest()
    targets = some_targets(generator)
    with pytest.raises(InputError, match="at least one distribution"):
        success([], targets)
    with pytest.raises(InputError, match="planned for needs"):
        flat.success(targets, (R, torch.zeros(5, 3)))
    with pytest.raises(InputError, match="planned for must be rotation matrices"):
        flat.success(targets, (torch.zeros(3, 3), t))
    with pytest.raises(InputError, match="positive"):
        flat.probability_within(R, t, -0.1, 0.01)
    with pytest.raises(InputError, match=r"\[S, 4, 4\]"):
        flat.probability_within(R, t, 0.1, 0.01, torch.eye(3)[None])
