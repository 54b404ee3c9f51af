"""The distribution's fast paths against plain twins, on random and on real distributions."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import se3_grid, so3_grid
from spyropose_ros.core._ordering import descending
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.demo.mug_views import MugViews
from spyropose_ros.demo.plan import shipped_model

CENTER = torch.tensor([0.01, -0.03, 0.02])
ESTIMATE = torch.tensor([[0.05, -0.02, 0.6]])
KINDS = ("sheared box", "known translation", "handle seen", "handle hidden")


@pytest.fixture(scope="module", params=KINDS)
def leaves(request, rough_scorer):
    """Levels, rotation and position index, log mass of leaves in chance order; what they are of."""
    if request.param.startswith("handle"):
        settings = SearchSettings(beam=256)
        estimator = Estimator.from_pretrained(shipped_model("mug"), "cpu", settings)
        views, rng = MugViews(), np.random.default_rng(0)
        view = views.view(0.4 if "seen" in request.param else math.pi, 0.5, 0.6, rng)
        pyramid = estimator.search(view.image, views.K, view.box[None])
        info = estimator.bundle.object
        center, diameter = torch.tensor(info.center), info.diameter
    else:
        box = TranslationBox.from_view(ESTIMATE, 0.1)
        if request.param == "known translation":
            box = TranslationBox.known(ESTIMATE)
        pyramid = search(rough_scorer(8.0), box, depth=3, beam=30)
        center, diameter = CENTER, 0.1
    parts = []
    for level in pyramid.levels:
        leaf = ~level.expanded[0] & level.log_probability[0].isfinite()
        cells = level.cells
        parts.append(
            (
                torch.full((int(leaf.sum()),), cells.level),
                cells.rotation_index[0][leaf],
                cells.position_index[0][leaf],
                level.log_probability[0][leaf],
            )
        )
    parts = [torch.cat(part) for part in zip(*parts, strict=True)]
    return parts, (pyramid.box, len(pyramid.levels), center, diameter)


@pytest.fixture(scope="module")
def plain(leaves):
    return Plain(*leaves)


@pytest.fixture(scope="module")
def fast(leaves):
    (levels, rotation, position, log_p), (box, depth, center, diameter) = leaves
    # Cells that are no leaves lie among them
    holes = torch.rand(len(levels), generator=torch.Generator().manual_seed(0)) < 0.2
    twice = torch.stack((torch.zeros_like(holes), ~holes), 1).flatten()
    spread = [part.repeat_interleave(2, 0) for part in (levels, rotation, position, log_p)]
    spread[3] = spread[3].masked_fill(~twice, -torch.inf)
    kept = torch.stack((holes, ~holes), 1).flatten()
    spread[3][kept] = log_p
    return PoseDistribution(box, *spread, depth, 0.0, center, diameter)


class Plain:
    """What a distribution is, said the long way."""

    def __init__(self, parts, of):
        self.box, self.depth, self.center, self.diameter = of
        order = parts[3].argsort(descending=True, stable=True)
        levels, rotation, position, self.log_p = (part[order] for part in parts)
        self.levels, self.p = levels, self.log_p.exp()
        self.rotations = torch.empty(len(levels), 3, 3)
        self.translations = torch.empty(len(levels), 3)
        volumes = torch.cat([se3_grid.log_volume(self.box, r) for r in range(self.depth)])
        self.log_densities = self.log_p.double() - volumes[levels]
        for level in range(self.depth):
            at = levels == level
            R, t = Cells(level, rotation[None, at], position[None, at]).poses(self.box)
            self.rotations[at], self.translations[at] = R[0], t[0] - R[0] @ self.center

    def moments(self, leaves):
        """Mean rotation and translation, covariance."""
        w = self.p[leaves].double().numpy()
        w /= w.sum()
        R, t = self.rotations[leaves].double().numpy(), self.translations[leaves].double().numpy()
        u, _, vt = np.linalg.svd(np.einsum("n,nij->ij", w, R))
        mean_R = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        mean_t = w @ t
        vector = Rotation.from_matrix(R @ mean_R.T).as_rotvec()
        delta = np.concatenate((t - mean_t, vector), 1)
        covariance = np.einsum("n,ni,nj->ij", w, delta, delta)
        levels = self.levels[leaves].double().numpy()
        edges = self.box.basis[0].double().numpy()
        covariance[:3, :3] += (w * 4.0 ** -(levels + 1)).sum() / 12 * edges @ edges.T
        turn = w * (2 * so3_grid.cell_radius(0) / 2**levels) ** 2 / 12
        for weight, arm in zip(turn, R @ self.center.double().numpy(), strict=True):
            x, y, z = arm
            lever = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
            rows = np.concatenate((lever, np.eye(3)))  # a turn moves the origin as well
            covariance += weight * rows @ rows.T
        return mean_R, mean_t, covariance

    def modes(self, radius=0.35, max_modes=8, min_mass=0.02):
        """(mass, mean rotation, mean translation, covariance), most mass first."""
        n = int((self.p.double().cumsum(0) < 0.999).sum()) + 1
        n = min(n, 20_000, len(self.p))
        free, found = self.p[:n].clone(), []
        for _ in range(4 * max_modes):
            if float(free.sum()) < min_mass or len(found) == max_modes:
                break
            seed = int(self.log_densities[:n].masked_fill(free == 0, -torch.inf).argmax())
            trace = (self.rotations[:n] * self.rotations[seed]).sum((1, 2))
            near = trace >= 1 + 2 * math.cos(radius)
            across = self._across(self.translations[:n] - self.translations[seed])
            near &= across.norm(dim=1) <= self.diameter / 4
            members = (near & (free > 0)).nonzero().squeeze(1)
            mass = float(free[members].sum())
            if mass >= min_mass:
                found.append((mass, *self.moments(members)))
            free[members] = 0
        return sorted(found, key=lambda mode: -mode[0])

    def _across(self, offset):
        if self.box.axes == 0:
            return offset
        depth = torch.linalg.svd(self.box.basis[0])[0][:, 0]
        return offset - (offset @ depth)[:, None] * depth


def test_leaves_are_the_same_in_the_same_order(fast, plain):
    assert len(fast) == len(plain.p)
    assert torch.equal(fast.log_probabilities, plain.log_p)
    assert torch.equal(fast.levels, plain.levels)
    assert torch.equal(fast.rotations, plain.rotations)
    torch.testing.assert_close(fast.translations, plain.translations, atol=3e-7, rtol=0)
    torch.testing.assert_close(fast.log_densities, plain.log_densities, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [1, 256, 19_999, 10**6])
def test_the_head_needs_no_other_leaves(leaves, plain, n):
    parts, (box, depth, center, diameter) = leaves
    top = PoseDistribution(box, *parts, depth, 0.0, center, diameter).top(n)  # nothing cached
    assert torch.equal(top.probabilities, plain.p[:n])
    assert torch.equal(top.rotations, plain.rotations[:n])
    torch.testing.assert_close(top.translations, plain.translations[:n], atol=3e-7, rtol=0)
    assert top.truncated_mass == pytest.approx(max(0, 1 - float(plain.p[:n].double().sum())))


def test_summaries(fast, plain):
    p = plain.p.double()
    assert fast.entropy() == pytest.approx(-float((p * plain.log_densities).sum()), abs=1e-9)
    assert fast.effective_sample_size() == pytest.approx(1 / float(p.square().sum()), rel=1e-9)
    best = plain.log_densities.argmax()
    assert torch.equal(fast.densest()[0], plain.rotations[best])
    torch.testing.assert_close(fast.densest()[1], plain.translations[best], atol=3e-7, rtol=0)
    R, t, covariance = plain.moments(slice(None))
    np.testing.assert_allclose(fast.mean()[0], R, atol=1e-5)
    np.testing.assert_allclose(fast.mean()[1], t, atol=1e-6)
    assert_same_covariance(fast.covariance(), covariance)


def test_modes(fast, plain):
    found, expected = fast.modes(0.6, min_mass=0.002), plain.modes(0.6, min_mass=0.002)
    assert len(found) == len(expected) >= 1
    for mode, (mass, R, t, covariance) in zip(found, expected, strict=True):
        assert mode.mass == pytest.approx(mass, rel=1e-6)
        np.testing.assert_allclose(mode.rotation, R, atol=1e-5)
        np.testing.assert_allclose(mode.translation, t, atol=1e-6)
        assert_same_covariance(mode.covariance, covariance)


def assert_same_covariance(found, expected):
    """To 1e-4 of the standard deviations."""
    scale = np.sqrt(expected.diagonal())
    scale = torch.from_numpy(np.outer(scale, scale))
    np.testing.assert_allclose(found / scale, expected / scale.numpy(), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_order_is_that_of_a_stable_sort(dtype, generator):
    values = torch.randn(5000, generator=generator, dtype=dtype).mul(3).round() / 3  # many ties
    values[::7], values[3], values[11] = -torch.inf, 0.0, -0.0
    expected = values.argsort(descending=True, stable=True)
    for n in (0, 1, 700, 4999, 5000, 9000):
        assert torch.equal(descending(values, n), expected[:n])
    values[100], values[200] = torch.nan, -torch.tensor(torch.nan)
    assert descending(values, 300)[:2].tolist() == [100, 200]
