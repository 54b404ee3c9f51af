"""The prior from the last distribution: a proper density that moves with the motion."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import pose_prior, se3_grid, so3, so3_grid
from spyropose_ros.core.pose_prior import GridPrior, PosePrior
from spyropose_ros.core.search import search, search_exhaustively
from spyropose_ros.core.translation_grid import TranslationBox

BOX = TranslationBox.from_view(torch.tensor([[0.05, -0.02, 0.6]]), 0.12)
CENTER = torch.tensor([0.01, -0.02, 0.03])
STILL = torch.eye(4)
DEPTH = 3


def flat(level, rotations, translations):
    return rotations.new_zeros(rotations.shape[:2])


def peak(rotation, position, rotation_width=0.15, translation_width=0.02):
    """Scorer of one Gaussian mode."""

    def score(level, rotations, translations):
        angle = so3.geodesic_angle(rotations, rotation)
        distance = (translations - position).norm(dim=-1)
        return -0.5 * ((angle / rotation_width) ** 2 + (distance / translation_width) ** 2)

    return score


@pytest.fixture
def mode():
    rotation = torch.tensor(Rotation.from_rotvec([0.4, 1.0, -0.3]).as_matrix()).float()
    return rotation, torch.tensor([0.06, -0.01, 0.63])


@pytest.fixture
def last(mode):
    return search(peak(*mode), BOX, DEPTH).distribution(0, CENTER, 0.12)


def motion(rotvec, translation):
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor(Rotation.from_rotvec(rotvec).as_matrix())
    pose[:3, 3] = torch.tensor(translation)
    return pose


@pytest.mark.parametrize("noise", [(0.0, 0.0), (0.3, 0.02)])
@pytest.mark.parametrize("level", [0, 1])
def test_it_integrates_to_one_at_every_level(last, level, noise):
    grid = GridPrior([PosePrior(last, motion([0.1, 0, 0.2], [0.01, 0, 0.05]), *noise)], BOX, DEPTH)
    ratio = grid.log_ratio(se3_grid.all_cells(BOX, level))
    assert float(ratio.double().exp().mean()) == pytest.approx(1, abs=1e-4)


def test_children_share_the_mass_of_their_parent(last):
    grid = GridPrior([PosePrior(last, STILL, 0.05, 0.005)], BOX, DEPTH)
    parents = se3_grid.all_cells(BOX)
    for _ in range(DEPTH - 1):
        top = grid.log_ratio(parents).topk(20)
        parents = parents.take(top.indices).children()
        mean = grid.log_ratio(parents).double().exp().unflatten(1, (20, 64)).mean(2)
        torch.testing.assert_close(mean.log().float(), top.values, atol=1e-4, rtol=0)


def test_without_motion_and_noise_it_is_the_distribution_itself(last):
    """Cell by cell, as far as the number of samples allows."""
    grid = GridPrior([PosePrior(last, STILL, outlier=0.0)], BOX, DEPTH)
    for level in range(DEPTH):
        here = last.levels == level
        cells = last._cells(level, here.nonzero().squeeze(1))
        expected = last.log_densities[here] - se3_grid.uniform_log_density(BOX)
        heavy = last.probabilities[here] > 3e-3
        error = (grid.log_ratio(cells)[0] - expected)[heavy]
        assert int(heavy.sum()) == 0 or float(error.abs().max()) < 0.3, level


def test_the_uniform_distribution_stays_uniform():
    last = search_exhaustively(flat, BOX, 1).distribution(0, CENTER)
    grid = GridPrior([PosePrior(last, STILL)], BOX, DEPTH)
    for level, spread in ((0, 0.1), (1, 0.6)):
        ratio = grid.log_ratio(se3_grid.all_cells(BOX, level))
        assert float(ratio.abs().mean()) < spread
    posterior = search(flat, BOX, DEPTH, prior=grid).distribution(0)
    assert posterior.entropy() == pytest.approx(-float(se3_grid.uniform_log_density(BOX)), abs=0.3)


def test_a_motion_moves_the_poses(last, mode):
    """A prior that is moved is the prior at the mode before the motion."""
    move = motion([0.0, 0.5, 0.2], [-0.02, 0.01, 0.03])
    moved = (move[:3, :3].float() @ mode[0], move[:3, :3].float() @ mode[1] + move[:3, 3].float())
    box = TranslationBox.from_view(moved[1][None], 0.12)
    prior = PosePrior(last, move, outlier=0.0)
    found = search(flat, box, DEPTH, prior=GridPrior([prior], box, DEPTH)).distribution(0, CENTER)
    expected = search(peak(*moved), box, DEPTH).distribution(0, CENTER)
    R, t = found.mean()
    R_expected, t_expected = expected.mean()
    assert math.degrees(float(so3.geodesic_angle(R, R_expected))) < 3
    assert float((t - t_expected).norm()) < 0.015  # the cells are 7 cm deep
    assert found.entropy() == pytest.approx(expected.entropy(), abs=1.6)  # other cells, turned


def test_noise_widens_it_as_much_as_it_says(last, generator):
    still = PosePrior(last, STILL).sample(20_000, generator, "cpu")
    noisy = PosePrior(last, STILL, 0.1, 0.01).sample(20_000, generator, "cpu")
    grown = noisy[1].var(0) - still[1].var(0)
    torch.testing.assert_close(grown, torch.full((3,), 1e-4), atol=2e-5, rtol=0)
    mean = last.mean()[0]
    angle = [so3.geodesic_angle(r, mean).square().mean() for r, _ in (still, noisy)]
    assert float(angle[1] - angle[0]) == pytest.approx(3 * 0.1**2, rel=0.2)


def test_of_independent_images_the_posterior_is_the_product(mode, monkeypatch):
    """Two equal Gaussians make one whose covariance is half as large."""
    monkeypatch.setattr(pose_prior, "_NOVELTY", 1.0)
    monkeypatch.setattr(pose_prior, "_MEMORY", 1.0)
    wide = peak(*mode, 0.5, 0.05)
    once = search(wide, BOX, DEPTH).distribution(0, CENTER, 0.12)
    bayes = PosePrior(once, STILL, outlier=0.0)
    prior = GridPrior([bayes], BOX, DEPTH)
    twice = search(wide, BOX, DEPTH, prior=prior).distribution(0, CENTER, 0.12)
    half = peak(*mode, 0.5 / math.sqrt(2), 0.05 / math.sqrt(2))
    exact = search(half, BOX, DEPTH).distribution(0, CENTER, 0.12)
    assert twice.entropy() == pytest.approx(exact.entropy(), abs=0.4)
    assert once.entropy() - twice.entropy() > 1


def test_the_same_image_again_tells_little_that_is_new(mode):
    """With novelty and memory, 20 repetitions are worth less than two independent images."""
    wide = peak(*mode, 0.5, 0.05)
    found = once = search(wide, BOX, DEPTH).distribution(0, CENTER, 0.12)
    for _ in range(20):
        prior = GridPrior([PosePrior(found, STILL, 0.02, 0.002)], BOX, DEPTH)
        found = search(wide, BOX, DEPTH, prior=prior).distribution(0, CENTER, 0.12)
    half = peak(*mode, 0.5 / math.sqrt(2), 0.05 / math.sqrt(2))
    exact = search(half, BOX, DEPTH).distribution(0, CENTER, 0.12)
    assert exact.entropy() < found.entropy() < once.entropy() + 0.2


def test_what_images_do_not_show_is_not_forgotten(last, mode):
    """The prior has one rotation; then 20 images tell the translation alone."""

    def place(level, rotations, translations):
        return -0.5 * ((translations - mode[1]) / 0.05).square().sum(-1)

    found = last
    for _ in range(20):
        grid = GridPrior([PosePrior(found, STILL, 0.01, 0.001, 0.001)], BOX, DEPTH)
        found = search(place, BOX, DEPTH, prior=grid).distribution(0, CENTER, 0.12)
    angle = so3.geodesic_angle(found.rotations, mode[0])
    assert float(found.probabilities[angle < 0.7].sum()) > 0.5  # 0.02 if it knew nothing


def test_a_wrong_prior_gives_way_to_the_image(last, mode):
    """The prior is sure, the image shows the opposite."""
    opposite = mode[0] @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    grid = GridPrior([PosePrior(last, STILL, outlier=0.01)], BOX, DEPTH)
    R, _ = search(peak(opposite, mode[1]), BOX, DEPTH, prior=grid).distribution(0).mode()
    assert math.degrees(float(so3.geodesic_angle(R, opposite))) < 15


@pytest.mark.parametrize("outlier", [0.0, 0.05])
def test_a_prior_elsewhere_says_nothing(last, outlier):
    grid = GridPrior([PosePrior(last, motion([0, 0, 0], [1.0, 0, 0]), outlier=outlier)], BOX, DEPTH)
    ratio = grid.log_ratio(se3_grid.all_cells(BOX, 1))
    torch.testing.assert_close(ratio, torch.zeros_like(ratio))


def test_known_translations_leave_a_prior_of_rotations(mode):
    box = TranslationBox.known(mode[1][None])
    last = search(peak(*mode), box, DEPTH).distribution(0, CENTER)
    grid = GridPrior([PosePrior(last, STILL)], box, DEPTH)
    ratio = grid.log_ratio(se3_grid.all_cells(box, 2))
    assert float(ratio.double().exp().mean()) == pytest.approx(1, abs=1e-4)
    best = so3_grid.rotations(ratio[0].argmax(), 2)
    assert float(so3.geodesic_angle(best, mode[0])) < 0.3


def test_a_batch_is_its_elements(last):
    boxes = TranslationBox(BOX.center.repeat(2, 1) + 0.01, BOX.basis.repeat(2, 1, 1))
    prior = PosePrior(last, STILL, 0.1, 0.01)
    both = GridPrior([None, prior], boxes, DEPTH).log_ratio(se3_grid.all_cells(boxes, 1))
    alone = GridPrior([prior], boxes[1], DEPTH).log_ratio(se3_grid.all_cells(boxes[1], 1))
    assert not both[0].any()
    torch.testing.assert_close(both[1], alone[0])


@pytest.mark.parametrize(
    "change",
    [
        {"new_from_old": torch.full((4, 4), torch.nan)},
        {"new_from_old": 2 * torch.eye(4)},
        {"new_from_old": torch.eye(3)},
        {"rotation_noise": -1.0},
        {"translation_noise": math.nan},
        {"outlier": 1.5},
    ],
)
def test_what_cannot_be_is_refused(last, change):
    with pytest.raises(ValueError, match="rigid motion|noise >= 0"):
        PosePrior(**{"last": last, "new_from_old": STILL} | change)


def test_priors_and_boxes_must_match(last):
    with pytest.raises(ValueError, match="for each of 1; got 2"):
        GridPrior([None, None], BOX, DEPTH)
