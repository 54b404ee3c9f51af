"""The images that a detector learns from, and what they say is in them."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import trimesh

from bop_files import meshes, write_models
from spyropose_ros.core.errors import DataError, InputError
from spyropose_ros.detector.network import BINS, Prediction, cells
from spyropose_ros.scenes.groups import Group, GroupSampler, GroupSettings, Instance
from spyropose_ros.scenes.placed import place
from spyropose_ros.scenes.renderer import Renderer, bounding_sphere
from spyropose_ros.scenes.sampler import ObjectModel, SceneSettings, mask_box
from training.detector.images import IGNORED, NONE, GroupItems, counts, open_objects
from training.detector.losses import detection_loss
from training.generate.dataset import RECORD, views_of
from training.generate.settings import GenerationSettings, ViewSettings

PLAIN = SceneSettings(
    fx=100, fy=100, cx=63.5, cy=47.5, width=128, height=96, sprites=12, occlusion_probability=0.0
)


def cube(name="cube", distractors=()):
    mesh = trimesh.creation.box((0.1, 0.1, 0.1))
    return ObjectModel(
        name, mesh, None, np.zeros(3), 0.173, list(distractors), True, np.eye(3)[None]
    )


def sampler(**changes):
    scenes = replace(PLAIN, **changes)
    return GroupSampler([cube()], GroupSettings(scenes, side=128))


def test_boxes_and_fractions_are_those_of_the_visible_pixels(monkeypatch):
    """The near cube hides a part of the far one; the one between is all hidden and left out."""
    made, renderer = sampler(), Renderer(cube().mesh)
    where = [(0.13, 0.0, 0.8), (0.2, 0.02, 0.6), (0.1, 0.0, 0.3)]
    placed = [
        Instance(0, np.eye(3), t, place(renderer, np.eye(3), t, PLAIN.K, 128, 96))
        for t in map(np.array, where)
    ]
    monkeypatch.setattr(made, "_place_all", lambda rng: placed)
    group = made.sample(np.random.default_rng(0))
    far, middle, near = (item.pixels.mask(96, 128) for item in placed)
    assert not (middle & ~near).any() and (far & near).any()
    seen = far & ~middle & ~near
    np.testing.assert_array_equal(group.boxes, [mask_box(seen), mask_box(near)])
    totals = placed[0].pixels.total, placed[2].pixels.total
    np.testing.assert_allclose(group.visible, [seen.sum() / totals[0], near.sum() / totals[1]])
    assert group.classes.tolist() == [0, 0]


def test_images_follow_from_the_generator_and_some_are_empty():
    made = sampler(occlusion_probability=1.0, min_visible_fraction=0.5)
    groups = [made.sample(np.random.default_rng(i)) for i in range(40)]
    again = made.sample(np.random.default_rng(7))
    np.testing.assert_array_equal(again.image, groups[7].image)
    np.testing.assert_array_equal(again.boxes, groups[7].boxes)
    numbers = [len(g.boxes) for g in groups]
    assert 2 <= numbers.count(0) <= 14 and max(numbers) <= 5
    alone = np.concatenate([g.visible for g in groups if len(g.boxes) == 1])
    assert (alone >= 0.3).all() and (alone < 1).any()
    for g in groups:
        assert g.image.shape == (96, 128, 3)
        assert (g.boxes >= -0.5).all() and (g.boxes <= [127.5, 95.5, 127.5, 95.5]).all()


def test_known_objects_are_no_distractors():
    ball, cone = trimesh.creation.icosphere(2, 0.05), trimesh.creation.cone(0.05, 0.1)
    first = cube("first", [ball, cone])
    second = replace(cube("second"), mesh=ball.copy(), distractors=[first.mesh, cone])
    from spyropose_ros.scenes.groups import _others

    assert [len(other.vertices) for other in _others([first, second])] == [len(cone.vertices)]
    assert len(_others([first])) == 2


def test_what_is_hardly_visible_does_not_count():
    boxes = np.array([[0, 0, 20, 20], [0, 0, 20, 20], [5, 5, 9, 9]], np.float32)
    group = Group(
        np.zeros((32, 32, 3), np.uint8), boxes, np.array([1, 0, 1]), np.array([0.9, 0.1, 1.0])
    )
    assert counts(group).tolist() == [True, False, False]
    made = sampler()
    made.sample = lambda rng: group
    item = GroupItems(made).item(0, np.random.default_rng(0))
    assert item["classes"].tolist() == [1, IGNORED, IGNORED, NONE, NONE]
    assert item["image"].shape == (3, 32, 32) and item["boxes"].shape == (5, 4)


@pytest.mark.parametrize(
    ("source", "objects", "said"),
    [
        ("rendered", ["mug", "mug"], "each of its objects once"),
        ("rendered", ["cup"], "unknown object 'cup'"),
    ],
)
def test_other_objects_are_refused(source, objects, said):
    with pytest.raises(InputError, match=said):
        open_objects(source, objects, "data")


def test_objects_of_a_data_set_keep_their_proportions(tmp_path):
    """Named by the data set; the middle one has household size, whatever its own."""
    write_models(tmp_path)
    known = open_objects(str(tmp_path), ["all"], "data", side=64)
    assert known.classes == ("obj_000001", "obj_000002")
    sizes = [model.diameter for model in known.sampler.models]
    own = [2 * bounding_sphere(mesh)[1] for mesh in meshes().values()]
    assert np.median(sizes) == pytest.approx(0.12)
    assert sizes[0] / sizes[1] == pytest.approx(own[0] / own[1], rel=1e-3)
    for model in known.sampler.models:
        assert not model.recolour and abs(bounding_sphere(model.mesh)[0]).max() < 1e-3
    again = open_objects(str(tmp_path), ["2"], "data", side=64)
    assert again.classes == ("obj_000002",)
    assert again.sampler.sample(np.random.default_rng(0)).image.shape == (48, 64, 3)


def test_objects_of_a_generated_set_are_seen_as_it_was_generated(tmp_path):
    """Views, distances and camera are those of its record; a set without one has defaults."""
    write_models(tmp_path)
    upright = open_objects(str(tmp_path), ["1"], "data", side=64).sampler.settings.scenes
    assert (upright.rotations, upright.width) == ("table", 640)
    assert upright.distance == pytest.approx((3.5 * 0.12, 8 * 0.12))
    views = ViewSettings("uniform", (0.24, 0.3), (320, 240), fov=40.0)
    record = asdict(GenerationSettings("block", images=0, views=views))
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert views_of(tmp_path) == views
    known = open_objects(str(tmp_path), ["1"], "data", side=64)
    scale = 0.12 / (2 * bounding_sphere(meshes()[1])[1] / 1000)
    scenes = known.sampler.settings.scenes
    assert (scenes.rotations, scenes.width, scenes.height) == ("uniform", 320, 240)
    assert scenes.fx == pytest.approx(views.focal_length)
    assert scenes.distance == pytest.approx((0.24 * scale, 0.3 * scale))
    (tmp_path / RECORD).write_text("{}")
    with pytest.raises(DataError, match="generation.json is damaged"):
        open_objects(str(tmp_path), ["1"], "data")


def test_ignored_boxes_have_no_scores_to_learn():
    """But the cells of an object in them do, and all cells outside."""
    centers, strides = cells(64, 64)
    logits = torch.zeros(1, len(centers), 2, requires_grad=True)
    edges = torch.zeros(1, len(centers), 4, BINS, requires_grad=True)
    truth, ignored = torch.tensor([[8.0, 8, 24, 24]]), torch.tensor([[0.0, 0, 40, 40]])
    loss = detection_loss(
        Prediction(logits, edges), [truth], [torch.tensor([1])], centers, strides, [ignored]
    )
    loss.quality.backward()
    learned = logits.grad[0].abs().sum(1) > 0
    inside = ((centers > 0) & (centers < 40)).all(1)
    assert learned[~inside].all()
    assert 1 <= learned[inside].sum() < inside.sum()
