"""The search against a plain reading of the method and against distributions known exactly."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp

from spyropose_ros.core import se3_grid, so3, so3_grid
from spyropose_ros.core.search import search, search_exhaustively
from spyropose_ros.core.translation_grid import TranslationBox

BOX = TranslationBox.from_view(torch.tensor([[0.05, -0.02, 0.6]]), 0.1)
BOXES = TranslationBox.from_view(
    torch.tensor([[0.05, -0.02, 0.6], [0.0, 0.1, 0.9], [-0.2, 0.0, 0.4]]), 0.1
)


def random_poses(box, n, seed=0):
    """Uniform over SO(3) x box: [B, n, 3, 3], [B, n, 3]."""
    generator = torch.Generator().manual_seed(seed)
    rotation = so3.random_rotations(len(box) * n, generator).view(len(box), n, 3, 3)
    return rotation, box.from_coordinates(torch.rand((len(box), n, 3), generator=generator))


def as_dict(level, b=0):
    """Evaluated cells of a level: (rotation, x, y, z) -> log mass, and the expanded ones."""
    rotation = level.cells.rotation_index[b].tolist()
    position = level.cells.position_index[b].tolist()
    keys = [(r, *p) for r, p in zip(rotation, position, strict=True)]
    log_p = dict(zip(keys, level.log_probability[b].tolist(), strict=True))
    return log_p, {k for k, e in zip(keys, level.expanded[b].tolist(), strict=True) if e}


def search_by_the_book(scorer, box, depth, beam, tolerance=0.0):
    """Section 1.4 of the method with lists and dicts, for one box: [(log masses, expanded)]."""
    center, basis = box.center[0].double().numpy(), box.basis[0].double().numpy()
    cells = [(r, *p) for r in range(72) for p in np.ndindex(2, 2, 2)]
    mass, levels = 0.0, []
    for level in range(depth):
        index = np.array(cells)
        rotation = so3_grid.rotations(torch.tensor(index[:, 0]), level)
        position = center + ((index[:, 1:] + 0.5) / 2 ** (level + 1) - 0.5) @ basis.T
        position = torch.from_numpy(position).float()
        logits = scorer(level, rotation[None], position[None])[0].double().numpy()
        log_p = dict(zip(cells, log_softmax(logits) + mass, strict=True))
        expanded = set()
        if level + 1 < depth:
            share = tolerance * 2**level / (2 ** (depth - 1) - 1)
            ranked = sorted(cells, key=lambda cell: -log_p[cell])[:beam]
            left = np.exp(list(log_p.values())).sum()
            if left - sum(np.exp(log_p[cell]) for cell in ranked) > share:  # too narrow a beam
                enough = [cell for cell in ranked if np.exp(log_p[cell]) >= tolerance / beam]
                ranked = enough or ranked[:1]
            for cell in ranked:  # until what is left is within the level's share
                if tolerance > 0 and expanded and left <= share:
                    break
                expanded.add(cell)
                left -= np.exp(log_p[cell])
            mass = logsumexp([log_p[cell] for cell in expanded])
        levels.append((log_p, expanded))
        cells = [
            (8 * r + child, 2 * x + i, 2 * y + j, 2 * z + k)
            for r, x, y, z in expanded
            for child in range(8)
            for i, j, k in np.ndindex(2, 2, 2)
        ]
    return levels


def random_product(make, depth, sharpness=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotation = (sharpness * torch.randn(so3_grid.cell_count(depth - 1), generator=generator)).exp()
    position = (sharpness * torch.randn((2**depth,) * 3, generator=generator)).exp()
    return make(BOX, rotation, position)


@pytest.mark.parametrize(
    ("depth", "beam", "tolerance"),
    [(1, 5, 0.0), (2, 1, 0.0), (3, 7, 0.0), (4, 3, 0.0), (3, 40, 0.2), (3, 500, 0.02)],
)
def test_search_by_the_book(rough_scorer, depth, beam, tolerance):
    scorer = rough_scorer()
    found = search(scorer, BOX, depth, beam, tolerance)
    expected = search_by_the_book(scorer, BOX, depth, beam, tolerance)
    assert len(found.levels) == depth
    for level, (log_p, expanded) in zip(found.levels, expected, strict=True):
        got, got_expanded = as_dict(level)
        assert got_expanded == expanded
        assert got.keys() == log_p.keys()
        np.testing.assert_allclose([got[k] for k in log_p], list(log_p.values()), atol=2e-3)


def test_with_everything_expanded_it_is_the_softmax(rough_scorer):
    """All 36,864 cells of level 1, scored in one go."""
    scorer = rough_scorer()
    rotation = so3_grid.rotations(torch.arange(576), 1)
    g = (torch.cartesian_prod(*[torch.arange(4)] * 3) + 0.5) / 4
    position = BOX.from_coordinates(g[None])[0]
    R = rotation.repeat_interleave(64, 0)
    t = position.repeat(576, 1)
    log_p = scorer(1, R[None], t[None])[0].double().log_softmax(0)
    expected = log_p + 9 * math.log(2) + math.log(72 / math.pi**2 / float(BOX.volume))
    pyramid = search(scorer, BOX, depth=2, beam=576)
    found = pyramid.distribution(0)
    assert len(found) == 36_864 and found.unexpanded_mass == 0
    np.testing.assert_allclose(found.log_density(R, t), expected, atol=1e-3)
    np.testing.assert_allclose(
        pyramid.log_density_per_level(R[None], t[None])[0, :, -1], expected, atol=1e-3
    )


@pytest.mark.parametrize(("beam", "tolerance"), [(1, 0.0), (20, 0.0), (200, 0.0), (300, 0.3)])
def test_a_scorer_consistent_across_levels_is_exact_at_any_beam(product_scorer, beam, tolerance):
    """Every leaf then has its exact mass, wherever the search went."""
    depth = 4
    scorer = random_product(product_scorer, depth)
    pyramid = search(scorer, BOX, depth, beam, tolerance)
    for level in pyramid.levels:
        exact = scorer.log_mass(level.cells.level, *level.cells.poses(BOX))
        np.testing.assert_allclose(level.log_probability, exact, atol=1e-4)
    rotation, position = random_poses(BOX, 2000)
    per_level = pyramid.log_density_per_level(rotation, position)[0]
    for r in range(depth):
        evaluated = pyramid.levels[r].cells.keys()[0]
        here = torch.isin(se3_grid.containing(rotation, position, BOX, r).keys()[0], evaluated)
        exact = scorer.log_mass(r, rotation, position)[0] - se3_grid.log_volume(BOX, r)
        np.testing.assert_allclose(per_level[here, r], exact[here], atol=1e-4)
        if r > 0:  # where the search did not go, the coarser value stays
            assert torch.equal(per_level[~here, r], per_level[~here, r - 1])
    final = pyramid.distribution(0).log_density(rotation[0], position[0])
    torch.testing.assert_close(per_level[:, -1], final)


@given(
    st.integers(1, 3),
    st.integers(1, 60),
    st.floats(0, 0.9),
    st.floats(0, 30),
    st.integers(0, 1000),
)
def test_masses_sum_to_one(rough_scorer, depth, beam, tolerance, sharpness, seed):
    pyramid = search(rough_scorer(sharpness, seed), BOX, depth, beam, tolerance)
    distribution = pyramid.distribution(0)
    assert float(distribution.probabilities.double().sum()) == pytest.approx(1, abs=1e-5)
    assert bool((distribution.probabilities >= 0).all())
    coarse = distribution.probabilities[distribution.levels < depth - 1].double().sum()
    assert distribution.unexpanded_mass == pytest.approx(float(coarse), abs=1e-5)
    assert len(distribution) <= int(pyramid.evaluations[0])


@given(st.floats(0.001, 0.9), st.floats(0, 30), st.integers(0, 1000))
def test_the_tolerance_holds_where_the_beam_does_not_limit(
    rough_scorer, tolerance, sharpness, seed
):
    pyramid = search(
        rough_scorer(sharpness, seed), BOX, depth=2, beam=576, mass_tolerance=tolerance
    )
    assert float(pyramid.unexpanded_mass[0]) <= tolerance + 1e-5
    # And it is used: one cell fewer would leave more than the tolerance.
    base = pyramid.levels[0]
    least = base.log_probability[base.expanded].min().exp()
    if int(base.expanded.sum()) > 1:
        assert float(pyramid.unexpanded_mass[0] + least) > tolerance - 1e-5


def test_the_tolerance_is_shared_by_the_levels(product_scorer):
    scorer = random_product(product_scorer, 4, sharpness=3.0)
    for tolerance in (0.3, 0.6):
        pyramid = search(scorer, BOX, 4, beam=20_000, mass_tolerance=tolerance)
        assert int(pyramid.levels[2].expanded.sum()) < 20_000
        assert 0 < float(pyramid.unexpanded_mass[0]) <= tolerance


def test_a_beam_limits_the_work(rough_scorer):
    pyramid = search(rough_scorer(), BOXES, depth=4, beam=10)
    assert pyramid.evaluations.tolist() == [576 + 3 * 640] * 3


@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_a_batch_is_its_elements(rough_scorer, tolerance):
    """Also where the elements need different numbers of cells."""
    scorer = rough_scorer(sharpness=8.0)
    together = search(scorer, BOXES, 3, beam=200, mass_tolerance=tolerance)
    rotation, position = random_poses(BOXES, 500)
    per_level = together.log_density_per_level(rotation, position)
    counts = set()
    for b in range(3):
        alone = search(scorer, BOXES[b], 3, beam=200, mass_tolerance=tolerance)
        for ours, theirs in zip(alone.levels, together.levels, strict=True):
            log_p, expanded = as_dict(ours)
            log_p_b, expanded_b = as_dict(theirs, b)
            real = {k: v for k, v in log_p_b.items() if v > -math.inf}
            assert expanded == expanded_b
            assert log_p.keys() == real.keys()
            np.testing.assert_allclose([real[k] for k in log_p], list(log_p.values()), atol=1e-4)
        counts.add(int(alone.evaluations[0]))
        assert together.evaluations[b] == alone.evaluations[0]
        assert float(together.unexpanded_mass[b]) == pytest.approx(
            float(alone.unexpanded_mass[0]), abs=1e-5
        )
        expected = alone.log_density_per_level(rotation[b : b + 1], position[b : b + 1])
        np.testing.assert_allclose(per_level[b], expected[0], atol=1e-4)
        np.testing.assert_allclose(
            together.distribution(b).log_density(rotation[b], position[b]),
            expected[0, :, -1],
            atol=1e-4,
        )
    assert (len(counts) > 1) == (tolerance > 0)


def test_padding_holds_no_mass(rough_scorer):
    """A sharp element searched beside a flat one gets no leaves that it did not ask for."""

    def scorer(level, rotations, translations):
        logits = rough_scorer(1.0)(level, rotations, translations)
        return logits * torch.tensor([[40.0], [0.0]])

    pyramid = search(scorer, TranslationBox(BOXES.center[:2], BOXES.basis[:2]), 2, 576, 0.01)
    sharp, flat = pyramid.distribution(0), pyramid.distribution(1)
    assert len(sharp) < len(flat)
    for distribution in (sharp, flat):
        assert float(distribution.probabilities.double().sum()) == pytest.approx(1, abs=1e-5)
        assert bool(distribution.log_probabilities.isfinite().all())


def test_depth_nine_finds_the_cell_of_a_pose():
    """A scorer that sees the pose from afar leads to the one cell of 2.8e18 that holds it."""
    rotation, position = random_poses(BOX, 1, seed=4)

    def scorer(level, rotations, translations):
        width = 2.0 ** -(level + 1)
        angle = so3.geodesic_angle(rotations, rotation)
        offset = BOX.coordinates(translations) - BOX.coordinates(position)
        return (-4 * (angle / width).square() - 8 * (offset / width).square().sum(-1)).float()

    pyramid = search(scorer, BOX, depth=9, beam=64)
    truth = pyramid.log_density_per_level(rotation, position)[0, 0]
    uniform = float(se3_grid.uniform_log_density(BOX))
    assert bool((truth.diff() > 1.0).all())
    assert float(truth[-1]) - uniform > 0.85 * math.log(576 * 64**8)
    best_R, best_t = pyramid.distribution(0).mode()
    angle = so3.geodesic_angle(best_R, rotation[0, 0])
    assert float(angle.rad2deg()) < 0.3
    offset = BOX.coordinates(best_t.view(1, 1, 3)) - BOX.coordinates(position)
    assert float(offset.abs().max()) < 2 / 512


def test_cells_without_mass(rough_scorer):
    """-inf is an answer: half of the rotations ruled out."""

    def scorer(level, rotations, translations):
        logits = rough_scorer()(level, rotations, translations)
        return torch.where(rotations[..., 2, 2] > 0, logits, -torch.inf)

    distribution = search(scorer, BOX, 2, beam=576).distribution(0)
    assert float(distribution.probabilities.double().sum()) == pytest.approx(1, abs=1e-5)
    assert bool((distribution.rotations[:, 2, 2] > 0).all())


def test_half_precision_logits_are_normalised_in_full_precision(rough_scorer):
    def scorer(*arguments):
        return rough_scorer()(*arguments).half()

    distribution = search(scorer, BOX, 3, beam=100).distribution(0)
    assert distribution.log_probabilities.dtype == torch.float32
    assert float(distribution.probabilities.double().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"depth": 0}, "depth must be 1 to 9, got 0"),
        ({"depth": 10}, "depth must be 1 to 9, got 10"),
        ({"beam": 0}, "beam must be at least 1"),
        ({"mass_tolerance": -0.1}, "mass_tolerance must be in"),
        ({"mass_tolerance": 1.0}, "mass_tolerance must be in"),
        ({"mass_tolerance": math.nan}, "mass_tolerance must be in"),
    ],
)
def test_settings_out_of_range_are_named(rough_scorer, setting, name):
    with pytest.raises(ValueError, match=name):
        search(rough_scorer(), BOX, **({"depth": 2} | setting))


def test_a_scorer_with_the_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"shape \(1, 576, 3\) for \(1, 576\)"):
        search(lambda level, R, t: t, BOX, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bad_level", [0, 1])
def test_a_scorer_that_cannot_be_normalised_is_named(rough_scorer, value, bad_level):
    def scorer(level, rotations, translations):
        logits = rough_scorer()(level, rotations, translations)
        return torch.full_like(logits, value) if level == bad_level else logits

    with pytest.raises(FloatingPointError, match=f"at level {bad_level}"):
        search(scorer, BOX, 3, beam=4)


# --- rotations alone, and exhaustively ---


def delta_scorer(rotation, sharpness):
    """Logits that fall with the angle to a rotation: sharp at any level."""

    def score(level, rotations, translations):
        return -sharpness * so3.geodesic_angle(rotations, rotation)

    return score


def test_a_search_of_rotations_finds_the_cell_of_one():
    """Table 1.1: a one-cell delta at level 6 has log density 14.464; 21,128 evaluations at 512."""
    center = torch.tensor([[0.1, 0.2, 0.9]])
    rotation = so3.random_rotations(1, torch.Generator().manual_seed(4))[0]
    cell = so3_grid.index(rotation, 6)
    truth = so3_grid.rotations(cell, 6)
    known = TranslationBox.known(center)
    pyramid = search(delta_scorer(truth, 5e3), known, 7, beam=512)
    levels = pyramid.log_density_per_level(truth[None, None], center[None])[0, 0]
    assert float(levels[-1]) == pytest.approx(14.464, abs=1e-3)
    assert int(pyramid.evaluations) == 72 + 576 + 5 * 4096
    found = pyramid.distribution(0)
    R, t = found.mode()
    torch.testing.assert_close(R, truth, atol=1e-5, rtol=0)
    assert torch.equal(t, center[0])
    R, t = found.sample(50, torch.Generator().manual_seed(0))
    assert bool((so3_grid.index(R, 6) == cell).all()) and torch.equal(t, center.expand(50, 3))
    assert float(found.log_density(truth[None], torch.zeros(1, 3))) == pytest.approx(
        14.464, abs=1e-3
    )
    assert found.translation_resolution == 0 and float(found.covariance()[:3, :3].abs().max()) == 0


@pytest.mark.parametrize("box", [BOX, TranslationBox.known(BOX.center)], ids=["SE(3)", "SO(3)"])
def test_an_exhaustive_search_is_the_softmax_of_its_level(box, rough_scorer):
    """With every cell expanded the pyramid's last level is the same."""
    scorer = rough_scorer()
    pyramid = search(scorer, box, 2, beam=576)
    whole = search_exhaustively(scorer, box, 1)
    (level,) = whole.levels
    order = pyramid.levels[1].cells.keys().argsort(1)
    assert torch.equal(level.cells.keys(), pyramid.levels[1].cells.keys().gather(1, order))
    expected = pyramid.levels[1].log_probability.gather(1, order)
    torch.testing.assert_close(level.log_probability, expected, atol=1e-4, rtol=1e-4)
    a, b = whole.distribution(0), pyramid.distribution(0)
    assert a.entropy() == pytest.approx(b.entropy(), abs=1e-3) and a.depth == 2
    assert float(whole.unexpanded_mass) == 0
    with pytest.raises(ValueError, match="level must be 0 to 8, got 9"):
        search_exhaustively(scorer, box, 9)


class Families:
    """A scorer with the poses of its families written out, which counts them."""

    def __init__(self, scorer):
        self.scorer = scorer
        self.scored = 0

    def family_logits(self, level, image, rotations, translations):
        shape = (len(image), rotations.shape[1], translations.shape[1])
        self.scored += math.prod(shape)
        rotations = rotations.unsqueeze(2).expand(*shape, 3, 3).flatten(1, 2)
        translations = translations.unsqueeze(1).expand(*shape, 3).flatten(1, 2)
        logits = self.scorer(level, rotations, translations)
        return logits * (1 + 0.5 * image.unsqueeze(1))  # every batch element is another


def by_pose(scorer):
    """The same for scorers of poses."""

    def score(level, rotations, translations):
        logits = scorer(level, rotations, translations)
        return logits * (1 + 0.5 * torch.arange(len(logits)).unsqueeze(1))

    return score


@pytest.mark.parametrize(
    "options",
    [{}, {"mass_tolerance": 0.3}, {"mass_tolerance": 0.01}],
    ids=str,
)
@pytest.mark.parametrize("known", [False, True], ids=["SE(3)", "SO(3)"])
def test_families_give_the_same_pyramid(rough_scorer, options, known, monkeypatch):
    """Poses of a family are shared rotations and translations; only those that count are scored."""
    # The kernel's differ by 1e-6, from which a rough scorer makes 1e-3.
    twin = lambda index, level: so3_grid.rotations(so3_grid.children(index), level + 1)  # noqa: E731
    monkeypatch.setattr(so3_grid, "child_rotations", twin)
    box = TranslationBox.known(BOXES.center) if known else BOXES
    families = Families(rough_scorer(3.0, 0))
    found = search(families, box, 3, 40, **options)
    expected = search(by_pose(rough_scorer(3.0, 0)), box, 3, 40, **options)
    assert families.scored == int(expected.evaluations.sum())
    for a, b in zip(found.levels, expected.levels, strict=True):
        assert torch.equal(a.cells.keys(), b.cells.keys())
        assert torch.equal(a.expanded, b.expanded)
        torch.testing.assert_close(a.log_probability, b.log_probability, atol=1e-5, rtol=0)
    found = search_exhaustively(families, box, 1)
    expected = search_exhaustively(by_pose(rough_scorer(3.0, 0)), box, 1)
    assert torch.equal(found.levels[0].cells.keys(), expected.levels[0].cells.keys())
    torch.testing.assert_close(
        found.levels[0].log_probability, expected.levels[0].log_probability, atol=1e-5, rtol=0
    )


def test_a_beam_too_narrow_for_the_tolerance_leaves_out_what_it_hardly_needs(rough_scorer):
    """Of 576 cells the 300 of the beam do not hold 99.9 %: those of less than 0.1 % / 300 stay."""
    base = search(rough_scorer(3.0, 0), BOXES, 2, 300, 0.001).levels[0]
    mass = base.log_probability.exp()
    ranked = mass.sort(1, descending=True).values
    narrow = ranked[:, :300].sum(1) < 0.999
    assert narrow.any()
    for b in narrow.nonzero().flatten():
        expected = (mass[b] >= ranked[b, 299]) & (mass[b] >= 0.001 / 300)
        assert torch.equal(base.expanded[b], expected)


@given(st.floats(0.001, 0.9), st.floats(0, 30), st.integers(0, 1000))
def test_the_tolerance_holds_for_all_levels_together(rough_scorer, tolerance, sharpness, seed):
    box = TranslationBox.known(BOX.center)
    pyramid = search(rough_scorer(sharpness, seed), box, 4, 4608, tolerance)
    assert float(pyramid.unexpanded_mass[0]) <= tolerance + 1e-5
