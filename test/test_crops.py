"""Training items: the simulated detector, the crop and the surface map, on real renderings."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spyropose_ros.core import camera
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.scenes.detector import BoxNoise, noisy_box
from spyropose_ros.scenes.sampler import SceneSampler
from training.data.crops import surface_map, training_item
from training.data.source import ENDLESS
from training.data.streams import TEST, TRAIN, VALIDATION, Stream, item_generator
from training_tools import CROP, crop, distance_to_surface, mug_source

SIZE_RATIO = 1.0


class SceneItems:
    """Items of rendered pictures."""

    def __init__(self, sampler, crop):
        self.sampler = sampler
        self.crop = crop

    def __len__(self):
        return ENDLESS

    def item(self, index, rng):
        scene, model = self.sampler.sample(rng), self.sampler.model
        pose = scene.rotation, scene.translation
        sphere = model.center, model.diameter, SIZE_RATIO
        picture = scene.image, scene.K
        return training_item(*picture, *pose, *sphere, scene.box, self.crop, rng, scene.depth)


@pytest.fixture(scope="module")
def sampler():
    source = mug_source()
    return SceneSampler(source.model, source.settings)


def stream(sampler, settings=CROP, kind=TRAIN, seed=0):
    return Stream(SceneItems(sampler, settings), kind, seed, 100)


def test_items_repeat_and_streams_differ(sampler):
    data = stream(sampler)
    first, again = data[5], stream(sampler)[5]
    assert all(torch.equal(first[key], again[key]) for key in first)
    others = (data[6], stream(sampler, seed=1)[5], stream(sampler, kind=VALIDATION)[5])
    assert not any(torch.equal(first["rotation"], other["rotation"]) for other in others)
    draws = {item_generator(0, kind, 5).random() for kind in (TRAIN, VALIDATION, TEST)}
    assert len(draws) == 3


@pytest.mark.parametrize("noise", [BoxNoise(), None])
def test_truths_lie_in_the_box_of_every_orientation(sampler, noise):
    data = stream(sampler, crop(box_noise=noise))
    distances = []
    for index in range(30):
        item = data[index]
        box = TranslationBox.from_view(item["estimate"][None], sampler.model.diameter)
        g = box.coordinates(item["translation"].view(1, 1, 3))
        distances.append(float((g - 0.5).norm()))
    assert max(distances) < 0.5
    assert np.mean(distances) > 0.03  # there is noise


def test_the_network_sees_in_training_what_the_estimator_will_show_it(sampler, tiny_bundle):
    """The same box leads to the same crop and intrinsics, bit for bit."""
    item = stream(sampler, crop(resolution=32, max_roll=0.0), VALIDATION)[2]
    rng = item_generator(0, VALIDATION, 2)
    scene = sampler.sample(rng)
    box = noisy_box(scene.box, rng)
    model = sampler.model
    info = replace(tiny_bundle.object, diameter=float(model.diameter), size_ratio=SIZE_RATIO)
    estimator = Estimator(replace(tiny_bundle, object=info), "cpu")
    seen = []
    tiny_bundle.model.extractor.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    pyramid = estimator.search(scene.image, scene.K, box[None])
    torch.testing.assert_close(pyramid.box.center[0], 0.8 * item["estimate"])
    assert torch.equal((seen[0][0] * 255).round().byte(), item["crop"])
    torch.testing.assert_close(
        item["translation"],
        torch.from_numpy(scene.rotation @ model.center + scene.translation).float(),
    )


def test_rolled_crops_show_the_object_where_the_pose_says(sampler):
    """Surface points of the map project to their own pixels and lie on the mesh."""
    data = stream(sampler)
    model = sampler.model
    rolls = []
    for index in range(4):
        item = data[index]
        K_crop = item["K_crop"]
        rolls.append(math.atan2(float(K_crop[1, 0]), float(K_crop[0, 0])))
        visible = item["surface"][0] > 0
        assert 0.02 < float(visible.float().mean()) < 0.9
        points = item["surface"][1:, visible].T * model.diameter / 2  # about the centre
        on_mesh = points.double().numpy() + model.center
        assert distance_to_surface(model.mesh, on_mesh).max() < 2e-3
        in_camera = points @ item["rotation"].T + item["translation"]
        pixels, _ = camera.project(K_crop, in_camera)
        rows, columns = visible.nonzero().unbind(1)
        expected = torch.stack((columns, rows), 1) * 4 + 1.5  # 48 px crop, 12 px map
        torch.testing.assert_close(pixels, expected, atol=1e-2, rtol=0)
        assert bool((item["surface"][1:, ~visible] == 0).all())
    assert np.std(rolls) > 0.3


def test_an_item_shows_where_the_detector_s_box_is_in_its_crop(sampler):
    """The box leads to the estimate, which is the middle of the crop, also of a turned one."""
    item = SceneItems(sampler, crop(max_roll=180.0)).item(0, item_generator(0, TRAIN, 0))
    corners = item["box"]
    assert corners.shape == (4, 2)
    middle = torch.full((2,), (CROP.resolution - 1) / 2)
    torch.testing.assert_close(corners.mean(0), middle, atol=1e-3, rtol=0)
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    assert abs(float(across @ down)) < 1e-2  # still a rectangle
    assert float(across[0] * down[1] - across[1] * down[0]) > 0  # not mirrored
    assert abs(float(torch.atan2(across[1], across[0]))) > 0.05  # and turned
    paper = SceneItems(sampler, crop(box_noise=None)).item(0, item_generator(0, TRAIN, 0))
    assert bool(paper["box"].isnan().all())


def test_the_padding_decides_how_much_the_crop_shows(sampler):
    wide = stream(sampler, crop(padding=2.0))[0]["K_crop"]
    usual = stream(sampler)[0]["K_crop"]
    torch.testing.assert_close(wide[:2, :2] * 2.0, usual[:2, :2] * 1.5)


def test_nothing_visible_gives_an_empty_map(sampler):
    scene = sampler.sample(item_generator(0, TRAIN, 0))
    center = torch.from_numpy(scene.rotation @ sampler.model.center + scene.translation).float()
    aside = (center + torch.tensor([0.5, 0.0, 0.0]))[None]
    K = torch.from_numpy(scene.K).float()
    diameter = sampler.model.diameter
    K_crop = camera.crop_intrinsics(aside, diameter, K, 48)
    R = torch.from_numpy(scene.rotation).float()[None]
    depth = torch.from_numpy(scene.depth)[None]
    empty = surface_map(depth, K[None], R, center[None], diameter, K_crop, CROP)
    assert empty.shape == (1, 4, 12, 12) and not bool(empty.any())
    assert "surface" not in stream(sampler, crop(surface=False))[0]
