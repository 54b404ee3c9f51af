"""Random surfaces, harsh light, zoomed crops and wrong exposure, as training asks for them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch.utils.data import default_collate

from spyropose_ros.scenes.appearance import Appearance, Surface
from spyropose_ros.scenes.groups import GroupSampler, GroupSettings
from spyropose_ros.scenes.sampler import SceneSettings
from spyropose_ros.scenes.surface import object_points, vary_surface
from spyropose_ros.scenes.views import ViewCaster
from training.data.looks import Looks
from training.data.rendered import RenderedSource
from training.data.streams import TRAIN, Stream
from training.data.unfamiliar import LOOKS, unfamiliar
from training.fitting.augment import WrongExposure
from training_tools import crop, distance_to_surface, numbers

ALWAYS = Surface(share=1.0)
CROP = crop(resolution=96, map_size=48)


@pytest.fixture(scope="module")
def source():
    look = Appearance(plain_backdrops=4)
    return RenderedSource("mug", "data", SceneSettings(sprites=20, appearance=look))


def composed(source, settings, n=12):
    stream = Stream(source.training_items(settings), TRAIN, 0, 100)
    return source.composer(settings)(default_collate([stream[i] for i in range(n)]))


def seen(source, seed):
    """Points of a view of the mug, [1, 3, S, S], in diameters about its centre; its mask."""
    view = ViewCaster(source.model, source.settings, 120.0).sample(np.random.default_rng(seed))
    centre = view.rotation @ source.center + view.translation
    pose = (torch.from_numpy(a).float()[None] for a in (view.K, view.rotation, centre))
    depth = torch.from_numpy(view.depth)[None]
    return object_points(depth, *pose) / source.diameter, (depth > 0).unsqueeze(1)


def test_points_lie_on_the_mesh(source):
    points, solid = seen(source, 0)
    on_mesh = points[0, :, solid[0, 0]].T.double().numpy() * source.diameter + source.center
    assert distance_to_surface(source.mesh, on_mesh[::50]).max() < 1e-3


def test_a_surface_is_fixed_to_its_object(source):
    """Where two views see the same point, they see the same colour."""
    points, colours = [], []
    for seed in (3, 4):
        here, solid = seen(source, seed)
        grey = torch.full_like(here, 0.5)
        painted = vary_surface(grey, here, solid, ALWAYS, numbers(1, 5))
        points.append(here[0, :, solid[0, 0]].T.numpy())
        colours.append(painted[0, :, solid[0, 0]].T.numpy())
    distance, nearest = cKDTree(points[0]).query(points[1])
    near = distance < 0.004
    assert near.sum() > 200
    difference = np.abs(colours[0][nearest[near]] - colours[1][near]).max(1)
    assert np.median(difference) < 0.02 and colours[0].std(0).max() > 0.05


def test_surfaces_differ_from_each_other_and_from_plain_ones():
    points = torch.rand(64, 3, 16, 16) - 0.5
    solid = torch.ones(64, 1, 16, 16, dtype=torch.bool)
    albedo = torch.rand(64, 3, 1, 1).expand_as(points)
    painted = vary_surface(albedo, points, solid, ALWAYS, numbers(64))
    assert float(painted.min()) >= 0 and float(painted.max()) <= 1
    contrast = painted.std((2, 3)).mean(1)
    assert float((contrast > 0.05).float().mean()) > 0.5
    assert float((painted - albedo).abs().mean()) > 0.1
    assert torch.equal(vary_surface(albedo, points, solid, Surface(share=0.0), numbers(64)), albedo)
    some = vary_surface(albedo, points, solid, Surface(share=0.5), numbers(64))
    unchanged = (some == albedo).flatten(1).all(1).float().mean()
    assert 0.25 < float(unchanged) < 0.75


def test_black_stays_finite():
    points = torch.rand(32, 3, 8, 8) - 0.5
    black = torch.zeros_like(points)
    solid = torch.zeros(32, 1, 8, 8, dtype=torch.bool)  # nothing of the object is in the window
    assert bool(vary_surface(black, points, solid, ALWAYS, numbers(32)).isfinite().all())


@pytest.mark.parametrize("looks", [Looks(painted=1.0), Looks(harsh=1.0)])
def test_crops_change_in_their_object_only(source, looks):
    plain, changed = composed(source, CROP), composed(source, replace(CROP, looks=looks))
    for key in ("surface", "K_crop", "rotation", "translation"):
        torch.testing.assert_close(changed[key], plain[key])
    different = (plain["crop"].int() - changed["crop"].int()).abs().float().mean(1)
    visible = torch.nn.functional.interpolate(plain["surface"][:, :1], scale_factor=2)[:, 0] > 0
    assert float(different[visible].mean()) > 10


def test_zoom_moves_and_scales_the_crop_and_nothing_else(source):
    plain, zoomed = composed(source, CROP, 40), composed(source, replace(CROP, zoom=0.25), 40)
    for key in ("estimate", "rotation", "translation"):
        torch.testing.assert_close(zoomed[key], plain[key])

    def scale(batch):
        return batch["K_crop"][:, :2, 0].norm(dim=1)

    ratio = scale(zoomed) / scale(plain)
    assert 0.79 < float(ratio.min()) < 0.86 and 1.18 < float(ratio.max()) < 1.26
    # Where the middle of what was the crop lies now, in crop sides.
    middle = torch.tensor([47.5, 47.5, 1.0])
    moved = (zoomed["K_crop"] @ plain["K_crop"].inverse() @ middle)[:, :2] - middle[:2]
    assert 0.1 < float((moved / 96).abs().max()) < 0.126


def test_unfamiliar_crops_show_the_pose_a_little_beside_itself(source):
    batch = composed(source, replace(CROP, looks=LOOKS), 40)
    changed = unfamiliar(batch, 3)
    for key in ("estimate", "rotation", "translation"):
        assert torch.equal(changed[key], batch[key])
    again = unfamiliar(batch, 3)
    assert torch.equal(changed["crop"], again["crop"])
    assert torch.equal(changed["K_crop"], again["K_crop"])
    assert changed["crop"].dtype == torch.uint8
    assert float((changed["crop"].float() - batch["crop"].float()).abs().mean()) > 5
    before, after = (
        (b["K_crop"] @ b["translation"].unsqueeze(2)).squeeze(2) for b in (batch, changed)
    )
    beside = (after[:, :2] / after[:, 2:] - before[:, :2] / before[:, 2:]) / 96  # crop sides
    assert 0.006 < float(beside.std()) < 0.02 and float(beside.abs().max()) < 0.06


def test_exposure_changes_its_share_of_the_crops():
    torch.manual_seed(0)
    crops = torch.rand(200, 3, 8, 8)
    changed = WrongExposure(1.0)(crops)
    assert bool(((changed >= 0) & (changed <= 1)).all())
    same = (changed == crops).flatten(1).all(1).float().mean()
    assert float(same) == pytest.approx(0.7 * 0.7 * 0.5 * 0.7, abs=0.08)
    assert torch.equal(WrongExposure(0.0)(crops), crops)


def test_detectors_see_painted_objects(source):
    def images(share):
        look = Appearance(plain_backdrops=4, surface=Surface(share=share))
        scenes = SceneSettings(sprites=20, appearance=look, occlusion_probability=0.0)
        sampler = GroupSampler([source.model], GroupSettings(scenes, 208, most=1, empty=0.0))
        return [sampler.sample(np.random.default_rng(seed)) for seed in range(6)]

    for plain, painted in zip(images(0.0), images(1.0), strict=True):
        np.testing.assert_array_equal(plain.boxes, painted.boxes)
    assert any((a.image != b.image).any() for a, b in zip(images(0.0), images(1.0), strict=True))
