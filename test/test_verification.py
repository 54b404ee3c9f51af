"""Modes weighed by renderings: masses move to the mode that looks like the image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.scenes import verification
from spyropose_ros.scenes.mug import make_mug
from spyropose_ros.scenes.renderer import Light, Renderer, shade
from spyropose_ros.scenes.verification import Verification

MUG = Path(__file__).parents[1] / "models" / "demo_mug"
K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
AT = np.array([0.02, 0.05, 0.5])
UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
RIGHT, LEFT = (UPRIGHT @ Rotation.from_euler("z", a, degrees=True).as_matrix() for a in (15, 165))


@pytest.fixture(scope="module")
def estimator():
    return Estimator.from_pretrained(MUG, "cpu")


def distribution(estimator, right, sharpness=60):
    """Two modes, the handle at the right with a mass of `right` and at the left; or one alone."""
    info = estimator.bundle.object
    centre = torch.tensor(info.center)
    modes = torch.tensor(np.stack((RIGHT, LEFT)), dtype=torch.float32)
    places = torch.tensor(AT, dtype=torch.float32) + modes @ centre
    masses = torch.tensor([right, 1 - right]).clamp(min=1e-9)

    def scorer(level, R, t):
        turn = 3 - torch.einsum("bnij,mij->mbn", R, modes)
        shift = (t - places[:, None, None]).square().sum(-1)
        off = sharpness * (turn + 20 * shift)
        return (masses.log()[:, None, None] - off).logsumexp(0)

    box = TranslationBox.from_detection(places[:1], info.diameter)
    return search(scorer, box, 4, 256).distribution(0, centre, info.diameter)


def picture():
    """The mug with its handle at the right, before grey, and a box around it."""
    seen = Renderer(make_mug().mesh).render(RIGHT, AT, K, 640, 480)
    light = Light(np.full(3, 0.3), np.array([[0.6, -0.5, -0.62]]), np.full((1, 3), 0.6), 0.2, 10)
    shown = shade(seen.albedo, seen.normals, light).clip(0, 1)
    rows, columns = np.nonzero(seen.mask)
    image = np.where(seen.mask[..., None], 255 * shown, 90).astype(np.uint8)
    return image, np.array([columns.min(), rows.min(), columns.max(), rows.max()], float)


def test_the_mode_that_looks_right_leads(estimator):
    image, box = picture()
    before = distribution(estimator, right=0.2)
    after = Verification(estimator, make_mug().mesh)(image, K, box, before)
    for found, leading in ((before, LEFT), (after, RIGHT)):
        assert np.trace(found.modes()[0].rotation.numpy().T @ leading) > 2.8
    assert float(after.probabilities.double().sum()) == pytest.approx(1, abs=1e-5)
    assert len(after) == len(before)


def test_a_single_mode_is_left_alone(estimator):
    single = distribution(estimator, right=1.0, sharpness=1000)
    assert len(single.modes()) == 1
    assert Verification(estimator, make_mug().mesh)(*picture()[:1], K, None, single) is single


def test_reweighted_masses_are_products(estimator):
    before = distribution(estimator, right=0.5)
    factors = torch.linspace(-2, 2, len(before))
    after = before.reweighted(factors)
    wanted = (before.log_probabilities.double() + factors).softmax(0)
    torch.testing.assert_close(after.probabilities.double(), wanted.sort(descending=True)[0])
    pose = before.rotations[:1], before.translations[:1]
    ratio = after.log_density(*pose) - before.log_density(*pose)
    torch.testing.assert_close(
        ratio.float()[0], wanted[0].log().float() - before.log_probabilities[0]
    )
    assert after.unexpanded_mass == pytest.approx(
        float(after.probabilities[after.levels < after.depth - 1].sum()), abs=1e-6
    )


def test_correlation():
    rng = np.random.default_rng(1)
    a = torch.from_numpy(rng.normal(size=(4, 50)))
    wanted = np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, a**3, strict=True)])
    assert float(verification._correlation(a, a**3)) == pytest.approx(wanted, abs=1e-4)
    assert float(verification._correlation(a, 2 - 3 * a)) == pytest.approx(-1, abs=1e-4)
    assert float(verification._correlation(a[:, :0], a[:, :0])) == 0
