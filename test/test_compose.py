"""Composed crops: geometry against independent renderings, boxes, repeatability, appearance."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from spyropose_ros.core import camera
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.scenes import chance as chances
from spyropose_ros.scenes.appearance import Appearance
from spyropose_ros.scenes.batch_effects import BatchEffects
from spyropose_ros.scenes.camera_effects import CameraEffects
from spyropose_ros.scenes.chance import Chance
from spyropose_ros.scenes.colours import random_colours
from spyropose_ros.scenes.compositing import shade
from spyropose_ros.scenes.detector import BoxNoise, MeasuredNoise
from spyropose_ros.scenes.renderer import Light, Renderer
from spyropose_ros.scenes.renderer import shade as shade_one
from spyropose_ros.scenes.sampler import SceneSettings, mask_box
from spyropose_ros.scenes.views import NORMAL_SCALE, ViewCaster
from spyropose_ros.scenes.warp import filter_each, gaussian, power_, similarity, warp
from training.data import open_source
from training.data.rendered import RenderedSource
from training.data.streams import TRAIN, Stream, item_generator
from training_tools import crop, distance_to_surface, numbers

FEW = {"sprites": 20, "appearance": Appearance(plain_backdrops=4)}
PLAIN = CameraEffects(0, 0, 0, 0, 0, 0, 0, 0, 0)
CROP = crop(resolution=96, map_size=48)
ERRORS = np.array([[0.05, 0, 0.1, -0.1], [0, -0.05, 0, 0.05]], np.float32)  # of boxes


def mug(**changes):
    return RenderedSource("mug", "data", SceneSettings(**(FEW | changes)))


@pytest.fixture(scope="module")
def source():
    return mug(occlusion_probability=1.0)


@pytest.fixture(scope="module")
def composer(source):
    return source.composer(CROP)


@pytest.fixture(scope="module")
def items(source):
    stream = Stream(source.training_items(CROP), TRAIN, 0, 100)
    return [stream[i] for i in range(24)]


@pytest.fixture(scope="module")
def composed(composer, items):
    return composer(default_collate(items))


# --- geometry --------------------------------------------------------------------------------


def rendered(source, batch, n):
    """Mask of the mesh alone at the pixels of the surface map, by the renderer."""
    center = torch.from_numpy(source.center).float()
    K, R = batch["K_crop"][n], batch["rotation"][n]
    turn = torch.eye(3)  # a turned crop is the crop of a turned camera
    turn[:2, :2] = K[:2, :2] / K[:2, 0].norm()
    upright = K @ turn.T
    upright[:2, 2] -= 0.5  # a pixel of the map is 2 x 2 of the crop
    pose = turn @ R, turn @ (batch["translation"][n] - R @ center), upright
    return Renderer(source.mesh).render(*(a.double().numpy() for a in pose), 96, 96).mask[::2, ::2]


def grown(mask):
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def in_camera(items):
    return [item for item in items if item["inside"].all()]


def test_visible_pixels_are_the_objects(source, composed):
    """Never a pixel beside the silhouette, though every crop is turned and most are occluded."""
    hidden = 0
    for n in range(24):
        alone, visible = rendered(source, composed, n), composed["surface"][n, 0].numpy() > 0
        assert visible.any() and not (visible & ~grown(alone)).any()
        hidden += (alone & ~grown(visible)).any()
    assert hidden > 15


def test_all_of_what_nothing_hides_is_visible():
    source = mug(occlusion_probability=0.0)
    stream = Stream(source.training_items(CROP), TRAIN, 1, 100)
    batch = source.composer(CROP)(default_collate(in_camera(stream[i] for i in range(20))))
    for n in range(len(batch["crop"])):
        alone, visible = rendered(source, batch, n), batch["surface"][n, 0].numpy() > 0
        assert not (visible & ~grown(alone)).any() and not (alone & ~grown(visible)).any()
        assert (alone & visible).sum() > 0.95 * (alone | visible).sum()


def test_the_picture_shows_the_object_where_the_map_says():
    """A white mug without light from the side, before black: the picture is its mask."""
    look = Appearance(
        ambient=(1.0, 1.0), ambient_tint=(1.0, 1.0), light_strength=(0.0, 0.0), gloss_share=0.0,
        clutter=0, shadow_share=0.0, part_share=0.0, blur_share=0.0, motion_share=0.0,
        plain_backdrops=1,
    )  # fmt: skip
    source = mug(occlusion_probability=0.0, effects=PLAIN, appearance=look)
    composer = source.composer(CROP)
    composer.painter._backdrops.zero_()
    stream = Stream(source.training_items(CROP), TRAIN, 1, 100)
    batch = composer(default_collate(in_camera(stream[i] for i in range(20))))
    small = torch.nn.functional.avg_pool2d(batch["crop"].float(), 2).amax(1)
    for n, picture in enumerate(small.numpy()):
        bright = picture > 0.5 * picture.max()
        alone = rendered(source, batch, n)
        assert (bright & alone).sum() > 0.93 * (bright | alone).sum()


def test_surface_points_lie_on_the_mesh_and_project_to_their_pixels(source, composed):
    for n in range(4):
        visible = composed["surface"][n, 0] > 0
        points = composed["surface"][n, 1:, visible].T * source.diameter / 2  # about the centre
        on_mesh = points.double().numpy() + source.center
        assert distance_to_surface(source.mesh, on_mesh[::20]).max() < 2e-3
        pose = composed["rotation"][n], composed["translation"][n]
        pixels, _ = camera.project(composed["K_crop"][n], points @ pose[0].T + pose[1])
        rows, columns = visible.nonzero().unbind(1)
        expected = torch.stack((columns, rows), 1) * 2 + 0.5
        torch.testing.assert_close(pixels, expected, atol=2e-2, rtol=0)
        assert not bool(composed["surface"][n, 1:, ~visible].any())


def test_crops_are_turned_as_far_as_asked(source, composed):
    K = composed["K_crop"]
    assert np.std([math.atan2(float(k[1, 0]), float(k[0, 0])) for k in K]) > 0.5
    upright = source.training_items(replace(CROP, max_roll=0.0)).item(0, np.random.default_rng(0))
    assert upright["roll"] == 0


# --- views -----------------------------------------------------------------------------------


def test_a_view_is_what_the_renderer_shows(source):
    caster = ViewCaster(source.model, source.settings, 60.0)
    for seed in range(6):
        view = caster.sample(np.random.default_rng(seed))
        size = caster.size
        buffer = Renderer(source.mesh).render(view.rotation, view.translation, view.K, size, size)
        assert (buffer.mask != (view.depth > 0)).sum() <= 2
        both = buffer.mask & (view.depth > 0)
        np.testing.assert_allclose(view.depth[both], buffer.depth[both], atol=1e-3)
        normals = np.moveaxis(view.normals, 0, 2) / NORMAL_SCALE
        assert np.median(np.abs(normals - buffer.normals)[both]) < 1e-3
        # The whole object is in the window, and as large as asked, or as the camera sees it.
        rim = np.concatenate([view.depth[0], view.depth[-1], view.depth[:, 0], view.depth[:, -1]])
        assert not rim.any()
        z = (view.rotation @ source.center + view.translation)[2]
        apparent = source.diameter * view.K[0, 0] / z
        assert apparent == pytest.approx(min(60.0, source.diameter * 600 / z), rel=0.02)


def test_what_lies_outside_the_camera_image_is_black_and_not_visible(source):
    caster = ViewCaster(source.model, source.settings, 64.0)
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    center = np.array([-0.5 * 639 / 600 * 0.5, 0, 0.5])  # on the left border
    view = caster.cast(rotation, center - rotation @ source.center)
    seen = view.depth > 0
    assert 0.3 < view.inside[seen].mean() < 0.7
    x = (np.arange(caster.size) - view.K[0, 2]) * 600 / view.K[0, 0] + 319.5
    np.testing.assert_array_equal(view.inside[0], x >= -0.5)
    item = source.training_items(CROP).item(0, np.random.default_rng(0))
    for key in ("depth", "normals", "albedo", "part", "inside"):
        item[key] = torch.from_numpy(getattr(view, key))
    item |= {"K": torch.from_numpy(view.K).float(), "translation": torch.from_numpy(center).float()}
    item |= {"rotation": torch.from_numpy(rotation).float(), "roll": torch.tensor(0.0)}
    composer = mug(occlusion_probability=0.0).composer(CROP)
    batch = composer(default_collate([item]))
    border = batch["K_crop"][0, 0, 2] + batch["K_crop"][0, 0, 0] * (-0.5 - 319.5) / 600
    outside = torch.arange(96) < border - 1.5
    assert 20 < outside.sum() < 76
    assert not batch["crop"][0, :, :, outside].any()
    assert not batch["surface"][0, 0, :, outside[::2]].any()
    assert batch["crop"][0, :, :, torch.arange(96) > border + 1].float().mean() > 5


def test_which_of_the_equivalent_poses_is_annotated_is_chance(source):
    """The view is the same; rotation and centre are those of the chosen pose."""
    plain, turning = (source.training_items(CROP) for _ in range(2))
    half_turn = np.diag([-1.0, -1.0, 1.0])
    turning.caster.model = replace(source.model, symmetries=np.stack((np.eye(3), half_turn)))
    turned = []
    for seed in range(8):
        first, second = (items.item(0, np.random.default_rng(seed)) for items in (plain, turning))
        assert torch.equal(first["depth"], second["depth"])
        torch.testing.assert_close(first["translation"], second["translation"])
        relative = (first["rotation"].T @ second["rotation"]).numpy()
        turned.append(relative[0, 0] < 0)
        np.testing.assert_allclose(relative, half_turn if turned[-1] else np.eye(3), atol=1e-6)
    assert 0 < sum(turned) < 8


# --- the simulated detector ------------------------------------------------------------------


def test_boxes_enclose_what_is_visible(source, composer, items):
    batch = default_collate(items)
    chance = Chance(batch["chance"])
    yes = lambda visible, index: torch.ones(len(visible), dtype=torch.bool)  # noqa: E731
    occluders, visible = composer.painter.occlude(batch, yes, chance)
    boxes = composer._boxes(visible, batch["K"])
    total = (batch["depth"] > 0).flatten(1).sum(1)
    assert bool((visible.flatten(1).sum(1) >= 0.6 * total - 1).all())
    assert bool((occluders.counts > 0).float().mean() > 0.8)
    assert not bool((visible & ~(batch["depth"] > 0)).any())
    for n, box in enumerate(boxes):
        tight = mask_box(visible[n].numpy()).reshape(2, 2)
        K = items[n]["K"].numpy()
        expected = (tight - K[:2, 2]) * 600 / K[[0, 1], [0, 1]] + [319.5, 239.5]
        np.testing.assert_allclose(box.numpy(), expected.ravel(), atol=1e-2)


@pytest.mark.parametrize("noise", [BoxNoise(), MeasuredNoise(ERRORS), None])
def test_truths_lie_in_the_box_of_every_orientation(source, noise):
    settings = replace(CROP, box_noise=noise)
    stream = Stream(source.training_items(settings), TRAIN, 0, 100)
    batch = source.composer(settings)(default_collate([stream[i] for i in range(40)]))
    box = TranslationBox.from_view(batch["estimate"], source.diameter)
    distance = (box.coordinates(batch["translation"].unsqueeze(1))[:, 0] - 0.5).norm(dim=1)
    assert float(distance.max()) < 0.5 and float(distance.mean()) > 0.03


# --- repeatability ---------------------------------------------------------------------------


def test_an_item_is_the_same_in_every_batch(source, composer, items, composed):
    """Also from another stream object, as after a restart: nothing is drawn when composing."""
    torch.manual_seed(1)
    again = Stream(source.training_items(CROP), TRAIN, 0, 100)
    for chosen in ([3], [5, 3, 11, 3]):
        batch = composer(default_collate([again[i] for i in chosen]))
        for n, i in enumerate(chosen):
            for key in ("K_crop", "estimate", "rotation", "translation"):
                torch.testing.assert_close(batch[key][n], composed[key][i])
            difference = (batch["crop"][n].int() - composed["crop"][i].int()).abs()
            assert difference.float().mean() < 0.01  # rounding
    twice = [composer(default_collate(items)) for _ in range(2)]
    assert all(torch.equal(twice[0][key], twice[1][key]) for key in twice[0])


def test_items_differ(composed):
    crops = composed["crop"].flatten(1)
    assert len({bytes(crop.numpy()) for crop in crops}) == len(crops)


def test_numbers_run_out_aloud():
    chance = numbers(2)
    assert chance.uniform(2.0, 3.0, (chances.COUNT - 1,)).shape == (2, chances.COUNT - 1)
    chance.uniform()
    with pytest.raises(ValueError, match="draw more"):
        chance.uniform()


# --- appearance ------------------------------------------------------------------------------


def test_numbers_are_distributed_as_they_say():
    chance = numbers(400)
    uniform, normal = chance.uniform(-2.0, 3.0, (20,)), chance.normal((40,))
    assert float(uniform.min()) >= -2 and float(uniform.max()) < 3
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(normal.mean()) == pytest.approx(0, abs=0.03)
    assert float(normal.std()) == pytest.approx(1, abs=0.03)
    whole = chance.integers(1, 3, (20,))
    assert torch.bincount(whole.flatten())[1:].min() > 2400 and set(whole.unique().tolist()) == {
        1,
        2,
        3,
    }
    assert float(chance.happens(0.3, (20,)).float().mean()) == pytest.approx(0.3, abs=0.02)
    colours = random_colours(numbers(400))
    assert float(colours.min()) >= 0 and float(colours.max()) <= 1
    assert float((colours.amax(1) - colours.amin(1)).std()) > 0.15
    assert float(colours.mean(0).std()) < 0.03  # no colour is preferred


def test_a_light_from_one_side_lights_that_side():
    """As the renderer's shading does with the same light."""
    look = Appearance(lights=1, light_bias=(100.0, 0.0, 0.0), light_strength=(1.0, 1.0))
    look = replace(look, light_tint=(1.0, 1.0), ambient=(0.2, 0.2), ambient_tint=(1.0, 1.0))
    look = replace(look, gloss_share=1.0, gloss=(0.5, 0.5), shininess=(10.0, 10.0))
    normals = torch.nn.functional.normalize(torch.randn(1, 3, 8, 8), dim=1)
    albedo = torch.rand(1, 3, 8, 8)
    ours = shade(albedo, normals, look, numbers(1))
    light = Light(np.full(3, 0.2), np.array([[1.0, 0, 0]]), np.ones((1, 3)), 0.5, 10.0)
    pixels = [x[0].permute(1, 2, 0).numpy() for x in (albedo, normals)]
    theirs = torch.from_numpy(shade_one(*pixels, light)).permute(2, 0, 1)
    torch.testing.assert_close(ours[0], theirs, atol=0.05, rtol=0)


def test_effects_keep_geometry():
    """A step edge stays where it is, whatever the camera does to it."""
    image = torch.full((32, 3, 64, 64), 0.25)
    image[..., 32:] = 0.75
    effects = BatchEffects(CameraEffects(noise=2.0, jpeg=0.5), Appearance())
    changed = effects(image.clone(), torch.full((32,), 1.2), numbers(32))
    assert changed.shape == image.shape and changed.min() >= 0 and changed.max() <= 1
    for columns in changed[:, :, 10:-10].mean((1, 2)):
        middle = (columns[:16].mean() + columns[-16:].mean()) / 2
        assert 30 <= int((columns > middle).nonzero()[0]) <= 34


def test_effects_of_no_strength_change_nothing():
    image = torch.rand(4, 3, 40, 40)
    still = Appearance(blur_share=0.0, motion_share=0.0)
    changed = BatchEffects(PLAIN, still)(image.clone(), torch.ones(4), numbers(4))
    torch.testing.assert_close(changed, image, atol=2e-4, rtol=0)


def test_compression_is_coarser_at_lower_quality():
    image = torch.rand(8, 3, 44, 44)  # not a multiple of the block
    errors = []
    for quality in (20.0, 50.0, 95.0):
        look = Appearance(blur_share=0.0, motion_share=0.0, jpeg_quality=(quality, quality))
        changed = BatchEffects(replace(PLAIN, jpeg=1.0), look)(
            image.clone(), torch.ones(8), numbers(8)
        )
        errors.append(float((changed - image).abs().mean()))
    assert errors[0] > errors[1] > errors[2] > 0


def test_warps_filters_and_powers():
    image = torch.rand(2, 1, 9, 9)
    quarter = similarity(
        torch.ones(2),
        torch.full((2,), math.pi / 2),
        torch.full((2, 2), 4.0),
        torch.full((2, 2), 4.0),
    )
    torch.testing.assert_close(warp(image, quarter, 9), image.rot90(1, (2, 3)))
    covariance = torch.tensor([[[4.0, 1.0], [1.0, 1.0]], [[0.04, 0.0], [0.0, 0.04]]])
    kernels = gaussian(covariance, 8)
    pixel = torch.arange(-8.0, 9.0)
    torch.testing.assert_close(
        (kernels[0].sum(0) * pixel**2).sum(), torch.tensor(4.0), rtol=0.01, atol=0
    )
    torch.testing.assert_close(
        (kernels[0] * pixel * pixel[:, None]).sum(), torch.tensor(1.0), rtol=0.01, atol=0
    )
    torch.testing.assert_close(
        filter_each(image, gaussian(covariance, 4))[1], image[1], atol=1e-4, rtol=0
    )
    base, exponent = torch.rand(2, 50), torch.tensor([[0.5], [3.0]])
    torch.testing.assert_close(power_(base.clone(), exponent), base**exponent, atol=1e-5, rtol=1e-4)


def test_mixed_views_of_a_coloured_object(tmp_path):
    """Vertex colours are kept: the object's hue is that of the mesh."""
    source = mug(occlusion_probability=0.0, effects=PLAIN)
    mesh = source.mesh.copy()
    mesh.visual.vertex_colors = np.tile(np.uint8([200, 40, 40, 255]), (len(mesh.vertices), 1))
    source.model = replace(source.model, mesh=mesh, recolour=False, handle_faces=None)
    stream = Stream(source.training_items(CROP), TRAIN, 0, 100)
    batch = source.composer(CROP)(default_collate(in_camera(stream[i] for i in range(12))))
    visible = batch["surface"][:, 0] > 0
    colours = batch["crop"][:, :, ::2, ::2].permute(0, 2, 3, 1)[visible].float().mean(0)
    assert colours[0] > 1.5 * colours[1] and colours[0] > 1.5 * colours[2]


def test_uniform_views_show_the_mug_from_below_too():
    """The trained views follow from --views, and so do those of the evaluation."""
    below = {}
    for views in ("upright", "uniform"):
        source = open_source("rendered", "mug", views=views)
        items = source.training_items(crop())
        drawn = [items.item(i, item_generator(0, TRAIN, i)) for i in range(60)]
        up = torch.stack([item["rotation"][:, 2] for item in drawn])  # object z, camera frame
        below[views] = float((up[:, 2] > 0.3).float().mean())  # pointing away from the camera
    assert below["upright"] < 0.05 < 0.2 < below["uniform"] < 0.5
