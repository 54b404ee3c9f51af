"""Modes weighed by renderings: masses move to the mode that looks like the image."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.bop.scene import BopFrame
from spyropose_ros.core.errors import BundleError, InputError, ScorerError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.detector.detector import Detections
from spyropose_ros.scenes import verification
from spyropose_ros.scenes.mug import make_mug
from spyropose_ros.scenes.renderer import Light, Renderer, shade
from spyropose_ros.scenes.verification import Verification
from training.evaluation import chain

MUG = Path(__file__).parents[1] / "models" / "demo_mug"
NAN = float("nan")
K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
AT = np.array([0.02, 0.05, 0.5])
UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
RIGHT, LEFT = (UPRIGHT @ Rotation.from_euler("z", a, degrees=True).as_matrix() for a in (15, 165))


@pytest.fixture(scope="module")
def estimator():
    return Estimator.from_pretrained(MUG, "cpu")


@functools.cache
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


def test_the_crop_is_that_of_the_search(estimator):
    """Of a better estimate of the centre, too: here one of what lies beside the object."""
    image, box = picture()
    before = distribution(estimator, right=0.2)
    weigh = Verification(estimator, make_mug().mesh)
    there = estimator.centers(K, np.float32(box)[None]).numpy()[0]
    same, other = (weigh(image, K, box, before, t) for t in (there, there + [0.15, 0, 0]))
    wanted = weigh(image, K, box, before).probabilities
    torch.testing.assert_close(same.probabilities, wanted)
    assert not torch.allclose(other.probabilities, wanted)


def test_leaves_belong_to_the_mode_at_their_place(estimator):
    """Of modes that are turned alike, too."""
    diameter = estimator.bundle.object.diameter
    places = torch.tensor(AT, dtype=torch.float32) + diameter * torch.tensor([[0.3], [-0.3]]) * (
        torch.tensor([1.0, 0, 0])
    )

    def scorer(level, R, t):
        turn = 3 - torch.einsum("bnij,ij->bn", R, torch.tensor(RIGHT, dtype=torch.float32))
        shift = (t - places[:, None, None]).square().sum(-1)
        return (-60 * turn - 3000 * shift).logsumexp(0)

    box = TranslationBox.from_detection(torch.tensor(AT, dtype=torch.float32)[None], diameter)
    found = search(scorer, box, 4, 256).distribution(0, torch.zeros(3), diameter)
    left, right = sorted(found.modes()[:2], key=lambda mode: float(mode.translation[0]))
    angles = verification._angles(found, [left, right])
    near_left, near_right = (
        (found.translations - mode.translation).norm(dim=1) < diameter / 5 for mode in (left, right)
    )
    assert near_left.any() and near_right.any()
    assert angles[near_left, 1].isinf().all() and angles[near_right, 0].isinf().all()
    assert angles[near_left, 0].isfinite().all() and angles[near_right, 1].isfinite().all()


def save(estimator, folder, mesh):
    """A copy of the estimator with a mesh in its bundle."""
    path = folder / "mesh.ply"
    if mesh is not None:
        path.write_bytes(mesh if isinstance(mesh, bytes) else mesh.export(file_type="ply"))
    bundle = replace(estimator.bundle, name=str(folder), mesh_path=mesh and path)
    return Estimator(bundle, "cpu")


def test_the_mesh_of_the_bundle_is_used(estimator, tmp_path):
    image, box = picture()
    before = distribution(estimator, right=0.2)
    coloured = make_mug().mesh
    coloured.visual.vertex_colors = np.uint8([200, 60, 40])
    found = Verification.of_bundle(save(estimator, tmp_path, coloured))(image, K, box, before)
    wanted = Verification(estimator, coloured)(image, K, box, before)
    torch.testing.assert_close(found.probabilities, wanted.probabilities, atol=1e-6, rtol=0)
    grey = Verification(estimator, make_mug().mesh)(image, K, box, before)
    assert float((found.probabilities - grey.probabilities).abs().max()) > 1e-4


@pytest.mark.parametrize(
    "mesh, text",
    [
        (None, "has no mesh to render the modes of 'mug' with: copy it, in metres and with its"),
        (make_mug().mesh, r"mesh.ply has no colours at its vertices, .*: replace it"),
        (b"ply\nformat ascii 1.0\n", r"mesh.ply is not a readable mesh \(.*\): replace it"),
    ],
    ids=["none", "grey", "damaged"],
)
def test_a_bundle_without_a_usable_mesh_is_refused(estimator, tmp_path, mesh, text):
    with pytest.raises(BundleError, match=text):
        Verification.of_bundle(save(estimator, tmp_path, mesh))


def test_features_that_are_not_finite_are_an_error(estimator, monkeypatch):
    image, box = picture()
    monkeypatch.setattr(Estimator, "features", lambda self, crops: NAN * crops)
    with pytest.raises(ScorerError, match="not finite"):
        Verification(estimator, make_mug().mesh)(image, K, box, distribution(estimator, 0.2))


def test_a_model_of_rotations_only_is_refused(estimator, monkeypatch):
    monkeypatch.setattr(estimator, "rotation_only", True)
    with pytest.raises(InputError, match="it estimates rotations only"):
        Verification(estimator, make_mug().mesh)


@pytest.mark.parametrize("verify", [False, True])
def test_the_chain_s_poses_are_those_of_the_verified_modes(estimator, verify, monkeypatch):
    image, box = picture()
    before = distribution(estimator, right=0.2)
    monkeypatch.setattr(Estimator, "estimate", lambda *_: [before])
    verifications = {"mug": Verification(estimator, make_mug().mesh)} if verify else {}
    frame = BopFrame(1, 2, Path(), Path(), K, [])
    found = Detections(box[None], np.array([0.5]), np.array([0]), ["mug"])
    models, numbers = {"mug": estimator}, {"mug": 7}
    (pose,) = chain.estimates(frame, image, found, models, verifications, numbers, 0.0)
    assert np.trace(pose.rotation.T @ (RIGHT if verify else LEFT)) > 2.8


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
