"""The training objective: unbiased, with the stated floor, about the right cells."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import plain_objective
from spyropose_ros.core import se3_grid, so3, so3_grid
from spyropose_ros.core.translation_grid import TranslationBox
from training.fitting import objective
from training.fitting.objective import BatchRandom, ObjectiveConfig, TrainingGrid, level_losses

DIAMETER = 0.1
ESTIMATE = torch.tensor([[0.05, -0.02, 0.6]])
PLAIN = ObjectiveConfig(rotation_offset=False, translation_offset=False)


def truths_near(estimate, generator):
    """Poses whose translations lie in the ball inscribed in the box of any orientation."""
    n = len(estimate)
    direction = torch.randn((n, 3), generator=generator)
    radius = 0.49 * torch.rand((n, 1), generator=generator) ** (1 / 3)
    g = 0.5 + direction / direction.norm(dim=1, keepdim=True) * radius
    box = TranslationBox.from_view(estimate, DIAMETER)
    return so3.random_rotations(n, generator), box.from_coordinates(g.unsqueeze(1))[:, 0]


@pytest.fixture
def grid(generator):
    """Randomly placed, one for all elements of a batch: a function of the batch size."""
    one = TrainingGrid.draw(ESTIMATE, DIAMETER, ObjectiveConfig(), BatchRandom(generator))

    def repeat(n):
        box = TranslationBox(one.box.center.repeat(n, 1), one.box.basis.repeat(n, 1, 1))
        return TrainingGrid(box, one.offset.repeat(n, 1, 1), 3)

    return repeat


@pytest.fixture
def weighted(monkeypatch):
    """Collects what the cross-entropy of every level sees: positives and weighted negatives."""
    seen = []

    def spy(positive, negatives, compute=objective._cross_entropy):
        seen.append((positive.detach(), negatives.detach()))
        return compute(positive, negatives)

    monkeypatch.setattr(objective, "_cross_entropy", spy)
    return seen


class SumScorer:
    """Logits that are a sum of a function of the rotation and one of the translation."""

    def __init__(self, sharpness=1.5):
        generator = torch.Generator().manual_seed(3)
        self.sharpness = sharpness
        self.a = torch.randn((4, 9), generator=generator)
        self.b = torch.randn((4, 3), generator=generator) * 20

    def of_rotation(self, level, rotations):
        return self.sharpness * torch.sin(rotations.flatten(-2) @ self.a[level])

    def of_translation(self, level, translations):
        return self.sharpness * torch.sin(translations @ self.b[level])

    def __call__(self, level, rotations, translations):
        return self.of_rotation(level, rotations) + self.of_translation(level, translations)

    def log_partition(self, grid, level):
        """Over every cell of a level, by enumeration."""
        rotations = so3_grid.rotations(torch.arange(so3_grid.cell_count(level)), level)
        axis = torch.arange(grid.positions_per_axis * 2**level)
        positions = grid.box.positions(torch.cartesian_prod(axis, axis, axis)[None], level + 1)
        a = self.of_rotation(level, grid.offset[0].T @ rotations)
        return float(a.logsumexp(0) + self.of_translation(level, positions[0]).logsumexp(0))


def perfect(grid, rotation, translation):
    """A scorer that is certain of the cells that hold the poses."""

    def score(level, rotations, translations):
        true = grid.containing(rotation, translation, level)
        other = se3_grid.containing(grid.offset @ rotations, translations, grid.box, level)
        same = (other.rotation_index == true.rotation_index) & (
            other.position_index == true.position_index
        ).all(-1)
        return torch.where(same, 0.0, -60.0)

    return score


# --- the estimator ---


@pytest.mark.parametrize("n_samples", [4, 16])
def test_importance_sampling_is_unbiased(grid, weighted, generator, n_samples):
    """The weighted negatives add up to n_samples times the partition function, on average."""
    batch, depth = 2000 // n_samples, 3
    scorer, grid = SumScorer(0.8), grid(batch)
    truth = (x.expand(batch, *x.shape[1:]) for x in truths_near(ESTIMATE, generator))
    config = ObjectiveConfig(n_samples)
    list(level_losses(scorer, grid, *truth, depth, config, BatchRandom(generator)))
    for level, (_, negatives) in enumerate(weighted):
        log_z = scorer.log_partition(grid, level)
        ratio = (negatives.double().logsumexp(1) - log_z).exp()
        if level == 0:  # all base cells: no randomness, the constant weight n / 64
            assert negatives.shape == (batch, 1944)
            np.testing.assert_allclose(ratio, 1944 / 64, rtol=1e-4)
            continue
        assert negatives.shape == (batch, n_samples * 64)
        error = float(ratio.std()) / math.sqrt(batch)
        assert 0 < error < 0.04 * n_samples
        assert float(ratio.mean()) == pytest.approx(n_samples, abs=4 * error)


def test_sampled_families_come_from_the_models_own_belief(grid, weighted, generator):
    """The better the proposal the smaller the spread: exact when every level has one function."""
    batch = 200

    def constant(level, rotations, translations):
        return torch.zeros(rotations.shape[:2])

    truth = (x.expand(batch, *x.shape[1:]) for x in truths_near(ESTIMATE, generator))
    list(level_losses(constant, grid(batch), *truth, 4, ObjectiveConfig(8), BatchRandom(generator)))
    for level, (_, negatives) in enumerate(weighted[1:], 1):
        total = negatives.double().exp().sum(1)
        np.testing.assert_allclose(total, 8 * 1944 * 64**level, rtol=1e-3)


def test_without_importance_sampling_negatives_are_uniform(grid, weighted, generator):
    """N cells of each level, all where n suffices: their mean estimates Z / cells."""
    batch, depth, n = 300, 3, 2000
    scorer, grid = SumScorer(), grid(batch)
    truth = (x.expand(batch, *x.shape[1:]) for x in truths_near(ESTIMATE, generator))
    config = ObjectiveConfig(n, importance_sampling=False)
    list(level_losses(scorer, grid, *truth, depth, config, BatchRandom(generator)))
    for level, (_, negatives) in enumerate(weighted):
        cells = 1944 * 64**level
        assert negatives.shape == (batch, min(n, cells))
        ratio = (
            negatives.double().exp().mean(1) * cells / math.exp(scorer.log_partition(grid, level))
        )
        error = float(ratio.std()) / math.sqrt(batch)
        assert float(ratio.mean()) == pytest.approx(1, abs=4 * error + 1e-4)


def enumerate_chances(logits, log_weight, truth, n, draws=4000):
    """How often each cell is chosen over evenly spaced uniform numbers, and the weights' error."""
    u = ((torch.arange(draws) + 0.5) / draws).unsqueeze(1)
    every = (x.expand(draws, -1) for x in (logits, log_weight))
    kept, weight = objective.choose_distinct(*every, truth.expand(draws, 1), n, u)
    counts = torch.bincount(kept.flatten(), minlength=logits.shape[1])
    total = torch.zeros((draws, logits.shape[1]), dtype=torch.float64)
    total.scatter_add_(1, kept, weight.double().exp())
    return kept, counts / draws, total.mean(0) / log_weight[0].double().exp()


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("n", [2, 5, 24])
def test_distinct_families_are_distinct_certain_and_unbiased(spread, n, generator):
    """The truth first, no cell twice, chances in proportion up to 1, weights that mend it."""
    logits = spread * torch.randn((1, 64), generator=generator)
    log_weight = torch.randn((1, 64), generator=generator).abs()
    truth = torch.tensor([[17]])
    kept, chances, mean_weight = enumerate_chances(logits, log_weight, truth, n)
    assert kept.shape[1] == n and bool((kept[:, 0] == 17).all())
    assert all(len(set(row)) == n for row in kept.tolist())
    assert float(chances.sum()) == pytest.approx(n)
    others = [i for i in range(64) if i != 17]
    mass = (logits + log_weight)[0, others].double().softmax(0)
    # Some threshold c explains all chances as min(1, mass / c).
    sampled = chances[others] < 0.999
    ratio = chances[others][sampled] / mass[sampled]
    seen = ratio[chances[others][sampled] > 0.02]
    if len(seen):
        assert float(seen.max() / seen.min()) < 1.1
    if len(seen) and bool((~sampled).any()):
        assert float(mass[~sampled].min()) * float(seen.mean()) > 0.95
    assert float(chances[17]) == pytest.approx(1)
    drawn = chances > 0.02  # rarer ones are rarely on the lattice of uniform numbers
    np.testing.assert_allclose(mean_weight[drawn], 1, rtol=0.03)


def test_distinct_families_of_a_belief_in_one_cell_alone(generator):
    """The others' mass underflows; which of them fill the places is chance, but no weight is."""
    logits = torch.zeros((1, 72))
    logits[0, 5] = 1000.0
    truth = torch.tensor([[70]])
    u = torch.rand((1, 1), generator=generator)
    kept, weight = objective.choose_distinct(logits, torch.zeros(1, 72), truth, 6, u)
    assert len(set(kept[0].tolist())) == 6 and 5 in kept[0]
    assert bool(weight.isfinite().all()) and float(weight[kept == 5]) == 0


def test_as_many_families_as_cells_leave_nothing_out(generator):
    logits = torch.randn((2, 8), generator=generator)
    truth = torch.tensor([[3], [0]])
    kept, weight = objective.choose_distinct(
        logits, torch.zeros(2, 8), truth, 30, torch.rand((2, 1), generator=generator)
    )
    assert sorted(kept[0].tolist()) == sorted(kept[1].tolist()) == list(range(8))
    assert float(weight.abs().max()) < 1e-6


@pytest.mark.parametrize("n_families", [3, 12])
def test_distinct_families_estimate_the_partition_function(grid, generator, n_families):
    """Unbiased at every level, given the truth, and never below the truth's own share."""
    batch, depth = 1500, 3
    scorer, grid = SumScorer(0.8), grid(batch)
    truth = (x.expand(batch, *x.shape[1:]) for x in truths_near(ESTIMATE, generator))
    finest = grid.containing(*truth, depth - 1)
    levels = objective.distinct_levels(scorer, grid, finest, n_families, BatchRandom(generator))
    for level, (logits, log_weight, slot) in enumerate(levels):
        assert logits.shape == (batch, 1944 if level == 0 else 64 * n_families)
        ratio = (logits + log_weight).double().logsumexp(1).sub(scorer.log_partition(grid, level))
        ratio = ratio.exp()
        error = float(ratio.std()) / math.sqrt(batch)
        assert float(ratio.mean()) == pytest.approx(1, abs=4 * error + 1e-4)
        # The slot is the truth's: its logit is that of the cell that holds it.
        poses = grid.poses(finest.ancestors(level))
        torch.testing.assert_close(logits.gather(1, slot), scorer(level, *poses))
        assert bool((log_weight.gather(1, slot) == 0).all())
        assert float(objective.cross_entropy(logits, log_weight, slot).min()) >= 0


def test_distinct_families_err_less_than_independent_ones(generator):
    """Of a belief that agrees from level to level and holds the truth, as a trained network's."""
    batch, depth, n = 300, 4, 8
    R = so3.random_rotations(batch, generator)
    config = ObjectiveConfig(n)
    grid = TrainingGrid.draw(ESTIMATE.repeat(batch, 1), None, config, BatchRandom(generator))
    finest = grid.containing(R, grid.box.center, depth - 1)

    def belief(_level, rotations, _translations):
        return -0.5 * (so3.geodesic_angle(rotations, R.unsqueeze(1)) / 0.3) ** 2

    arguments = belief, grid, finest, n, BatchRandom(generator)
    distinct = [(f + w).logsumexp(1) for f, w, _ in objective.distinct_levels(*arguments)]
    independent = [
        x.logsumexp(1) - math.log(n if level else 72 / 8)
        for level, (_, x) in enumerate(objective.independent_levels(*arguments))
    ]
    arguments = belief, grid, finest, 400, BatchRandom(generator)
    references = [(f + w).logsumexp(1) for f, w, _ in objective.distinct_levels(*arguments)]
    for level in range(1, depth):
        cells = torch.arange(so3_grid.cell_count(level))
        every = grid.offset[0].T @ so3_grid.rotations(cells, level)
        log_z = belief(level, every.expand(1, -1, 3, 3), None)[:1].logsumexp(1)
        reference = references[level]
        torch.testing.assert_close(reference[:1], log_z, rtol=0, atol=0.02)
        ours, theirs = distinct[level] - reference, independent[level] - reference
        assert float(ours.square().mean()) < 0.5 * float(theirs.square().mean())
        assert abs(float(ours.mean())) < abs(float(theirs.mean()))


def test_the_loss_of_a_perfect_scorer_tends_to_zero_with_distinct_families(generator):
    config = ObjectiveConfig(4, sampling="distinct")
    R, t = truths_near(ESTIMATE, generator)
    grid = TrainingGrid.draw(ESTIMATE, DIAMETER, config, BatchRandom(generator))

    losses = level_losses(perfect(grid, R, t), grid, R, t, 5, config, BatchRandom(generator))
    assert [float(loss) for loss in losses] == pytest.approx([0.0] * 5, abs=1e-4)


def test_distinct_families_need_room_for_the_truth():
    with pytest.raises(ValueError, match="n_samples >= 2"):
        ObjectiveConfig(1, sampling="distinct")


def test_loss_by_the_definition():
    """-log of the positive's share; the positive is added to the negatives."""
    positive, negatives = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.5, 2.0], [-1.0, 3.0]])
    expected = [
        math.log((math.exp(f) + sum(map(math.exp, n))) / math.exp(f))
        for f, n in zip(positive[:, 0].tolist(), negatives.tolist(), strict=True)
    ]
    loss = objective._cross_entropy(positive, negatives)
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.parametrize("n_samples", [4, 32, 128])
@pytest.mark.parametrize("config", [ObjectiveConfig(), PLAIN])
def test_the_floor_of_a_perfect_scorer(n_samples, config, generator):
    """log(1 + n) above the base level, log(1 + base cells / 64) on it."""
    config = replace(config, n_samples=n_samples)
    R, t = truths_near(ESTIMATE, generator)
    grid = TrainingGrid.draw(ESTIMATE, DIAMETER, config, BatchRandom(generator))

    losses = [
        float(v)
        for v in level_losses(perfect(grid, R, t), grid, R, t, 5, config, BatchRandom(generator))
    ]
    base = 1944 if config.translation_offset else 576
    assert losses[0] == pytest.approx(math.log(1 + base / 64), abs=1e-4)
    assert losses[1:] == pytest.approx([math.log(1 + n_samples)] * 4, abs=1e-4)


@pytest.mark.parametrize("sampling", ["independent", "distinct"])
def test_gradients_stay_within_their_level(sampling, grid, generator):
    """The proposal is detached: a level's loss moves that level's logits only."""
    R, t = truths_near(ESTIMATE, generator)
    scales = torch.ones(3, requires_grad=True)
    scorer, config = SumScorer(), ObjectiveConfig(8, sampling=sampling)

    def scaled(level, *poses):
        return scales[level] * scorer(level, *poses)

    for level, loss in enumerate(
        level_losses(scaled, grid(1), R, t, 3, config, BatchRandom(generator))
    ):
        (gradient,) = torch.autograd.grad(loss, scales)
        others = [r for r in range(3) if r != level]
        assert float(gradient[level]) != 0
        assert gradient[others].abs().sum() == 0


def test_levels_are_computed_one_after_the_other(grid, generator):
    """Lazily, so that a level's graph can be freed before the next is built."""
    R, t = truths_near(ESTIMATE, generator)
    seen, scorer = [], SumScorer()

    def spy(level, *poses):
        seen.append(level)
        return scorer(level, *poses)

    losses = level_losses(spy, grid(1), R, t, 3, ObjectiveConfig(4), BatchRandom(generator))
    assert seen == []
    for level in range(3):
        next(losses)
        assert seen == list(range(level + 1))
    assert next(losses, None) is None


@pytest.mark.parametrize("diameter", [DIAMETER, None], ids=["poses", "rotations"])
@pytest.mark.parametrize(
    "config",
    [
        ObjectiveConfig(5),
        ObjectiveConfig(5, translation_offset=False, rotation_offset=False),
        ObjectiveConfig(700, importance_sampling=False),
        ObjectiveConfig(50, importance_sampling=False, last_level_only=True),
    ],
)
def test_the_fast_objective_is_the_plain_one(config, diameter, generator):
    """Every level's loss, its gradient and the random numbers, for a network that is untrained."""
    depth, batch = 4, 6
    estimate = ESTIMATE.repeat(batch, 1)
    R, t = truths_near(estimate, generator)
    weights = [torch.randn((12, depth), generator=generator).requires_grad_() for _ in range(2)]
    weights[1].data.copy_(weights[0].data)
    found = []
    for compute, weight in zip((level_losses, plain_objective.level_losses), weights, strict=True):
        random = BatchRandom(torch.Generator().manual_seed(2))
        grid = TrainingGrid.draw(estimate, diameter, config, random)
        truth = t if diameter else grid.box.center

        def score(level, rotations, translations, weight=weight):
            pose = torch.cat((rotations.flatten(-2), 20 * translations), -1)
            return 3 * torch.sin(2 * (pose @ weight[:, level]))

        losses = list(compute(score, grid, R, truth, depth, config, random))
        gradients = [torch.autograd.grad(loss, weight)[0] for loss in losses]
        found.append((torch.stack(losses), torch.stack(gradients), random.uniform(1, 3)))
    fast, plain = found
    assert len(fast[0]) == (1 if config.last_level_only else depth)
    torch.testing.assert_close(fast[0], plain[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(fast[1], plain[1], rtol=0, atol=1e-5)
    assert torch.equal(fast[2], plain[2])


@pytest.mark.parametrize("config", [ObjectiveConfig(), PLAIN])
def test_one_look_up_serves_all_levels(config, generator):
    """The ancestors of the finest cells are the cells that contain the truth."""
    estimate = ESTIMATE.repeat(500, 1)
    R, t = truths_near(estimate, generator)
    grid = TrainingGrid.draw(estimate, DIAMETER, config, BatchRandom(generator))
    finest = grid.containing(R, t, 7)
    for level in range(8):
        got, expected = finest.ancestors(level), grid.containing(R, t, level)
        assert got.level == level
        assert torch.equal(got.rotation_index, expected.rotation_index)
        assert torch.equal(got.position_index, expected.position_index)


# --- the grid of a step ---


@pytest.mark.parametrize("config", [ObjectiveConfig(), PLAIN])
@pytest.mark.parametrize("level", [0, 2, 6])
def test_positives_are_the_cells_that_hold_the_truth(config, level, generator):
    estimate = ESTIMATE.repeat(300, 1)
    R, t = truths_near(estimate, generator)
    grid = TrainingGrid.draw(estimate, DIAMETER, config, BatchRandom(generator))
    cell = grid.containing(R, t, level)
    side = grid.positions_per_axis * 2**level
    assert bool(((cell.position_index >= 0) & (cell.position_index < side)).all())
    R_cell, t_cell = grid.poses(cell)
    # Of the offset grid: R_off R lies in the cell whose centre, turned back, is scored.
    angle = so3.geodesic_angle(R_cell[:, 0], R)
    assert float(angle.max()) < math.radians(74) / 2**level
    mean = math.radians(28.6) / 2**level
    assert float(angle.mean()) == pytest.approx(mean, rel=0.1)
    offset = grid.box.coordinates(t_cell) - grid.box.coordinates(t.unsqueeze(1))
    assert float(offset.abs().max()) <= 0.5 / 2 ** (level + 1) + 1e-4


def test_the_base_grid_covers_every_truth(generator):
    """Wherever the random offset puts the grid, the truth's base cell is among those scored."""
    estimate = ESTIMATE.repeat(500, 1)
    R, t = truths_near(estimate, generator)
    for config in (ObjectiveConfig(), PLAIN):
        grid = TrainingGrid.draw(estimate, DIAMETER, config, BatchRandom(generator))
        base, cell = grid.all_cells(0), grid.containing(R, t, 0)
        hit = (base.rotation_index == cell.rotation_index) & (
            base.position_index == cell.position_index
        ).all(-1)
        assert base.rotation_index.shape == (500, 1944 if config.translation_offset else 576)
        assert torch.equal(hit.sum(1), torch.ones(500).long())


def test_offsets_are_random_and_can_be_switched_off(generator):
    estimate = ESTIMATE.repeat(2000, 1)
    grid = TrainingGrid.draw(estimate, DIAMETER, ObjectiveConfig(), BatchRandom(generator))
    counts = torch.bincount(so3_grid.index(grid.offset, 0), minlength=72)
    assert int(counts.min()) > 5
    # The box moves back by half of u, uniform in [0, 1], along its own axes.
    moved = TranslationBox(grid.box.center, grid.box.basis).coordinates(estimate.unsqueeze(1))
    u = 2 * (moved[:, 0] - 0.5)
    assert float(u.min()) > -1e-4 and float(u.max()) < 1 + 1e-4
    np.testing.assert_allclose(u.mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(u.std(0), math.sqrt(1 / 12), atol=0.02)
    volume = torch.full((2000,), DIAMETER**2 * 0.6)
    torch.testing.assert_close(grid.box.volume, volume, rtol=1e-4, atol=0)
    still = TrainingGrid.draw(estimate, DIAMETER, PLAIN, BatchRandom(generator))
    assert torch.equal(still.box.center, estimate)
    assert torch.equal(still.offset, torch.eye(3).expand(2000, 3, 3))
    # The position grid is turned in any case.
    assert float((still.box.basis[0] - still.box.basis[1]).abs().max()) > 0.01


def test_a_seed_decides_the_losses(generator):
    estimate = ESTIMATE.repeat(4, 1)
    R, t = truths_near(estimate, generator)
    runs = []
    for seed in (1, 1, 2):
        generator.manual_seed(seed)
        grid = TrainingGrid.draw(estimate, DIAMETER, ObjectiveConfig(), BatchRandom(generator))
        losses = level_losses(
            SumScorer(), grid, R, t, 3, ObjectiveConfig(4), BatchRandom(generator)
        )
        runs.append([float(loss) for loss in losses])
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("sampling", ["independent", "distinct"])
def test_the_number_of_processes_does_not_change_a_step(sampling, generator):
    """Two processes with every second item draw what one with all items draws."""
    estimate = ESTIMATE.repeat(4, 1)
    R, t = truths_near(estimate, generator)
    config, scorer = ObjectiveConfig(4, sampling=sampling), SumScorer()

    def losses(rows, *share):
        random = BatchRandom(torch.Generator().manual_seed(5), *share)
        grid = TrainingGrid.draw(estimate[rows], DIAMETER, config, random)
        found = level_losses(scorer, grid, R[rows], t[rows], 3, config, random)
        return torch.tensor([float(loss) for loss in found])

    together = losses(slice(None))
    apart = losses(slice(0, None, 2), 0, 2), losses(slice(1, None, 2), 1, 2)
    assert float((apart[0] - apart[1]).abs().min()) > 1e-3
    torch.testing.assert_close((apart[0] + apart[1]) / 2, together)


# --- rotations alone ---


@pytest.mark.parametrize(
    "config", [ObjectiveConfig(16), ObjectiveConfig(16, rotation_offset=False)]
)
def test_known_translations_leave_the_objective_on_so3(config, weighted, generator):
    """Base weight 72 / 8 = 9 (algorithm.md 3.1); the sampled families estimate n Z."""
    batch = 400
    estimate = ESTIMATE.repeat(batch, 1)
    R = so3.random_rotations(1, generator).expand(batch, 3, 3)
    random = BatchRandom(generator)
    grid = TrainingGrid.draw(estimate, None, config, random)
    grid = TrainingGrid(grid.box, grid.offset[:1].expand(batch, 3, 3), 3)
    scorer = SumScorer(0.8)

    def of_rotation(level, rotations, _translations):
        return scorer.of_rotation(level, rotations)

    list(level_losses(of_rotation, grid, R, estimate, 3, config, random))
    for level, (_, negatives) in enumerate(weighted):
        cells = torch.arange(so3_grid.cell_count(level))
        rotations = grid.offset[0].T @ so3_grid.rotations(cells, level)
        log_z = float(scorer.of_rotation(level, rotations).logsumexp(0))
        ratio = (negatives.double().logsumexp(1) - log_z).exp()
        if level == 0:
            np.testing.assert_allclose(ratio, 9, rtol=1e-4)
            continue
        assert negatives.shape == (batch, 16 * 8)
        error = float(ratio.std()) / math.sqrt(batch)
        assert float(ratio.mean()) == pytest.approx(16, abs=4 * error)
