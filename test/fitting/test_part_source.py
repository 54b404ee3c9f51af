"""A part with a held-out set alone: its training views are rendered, in metres."""

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from spyropose_ros.scenes.detector import BoxNoise
from spyropose_ros.scenes.renderer import Renderer
from training.config import BopOptions
from training.data import open_source
from training.data.part import PartSource
from training.data.source import CropSettings
from training.data.streams import TRAIN, item_generator
from training.generate.dataset import generate
from training.generate.settings import GenerationSettings, ViewSettings
from training.presence import shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a wedge of 0.7 m, far from the origin of its file and from household size."""
    root = tmp_path_factory.mktemp("part")
    corners = [(0, 0, 0), (600, 0, 0), (0, 300, 0), (0, 0, 200), (600, 0, 100)]
    wedge = trimesh.Trimesh(corners).convex_hull.apply_translation((900, -100, 50))
    wedge.export(root / "wedge.stl")
    views = ViewSettings("uniform", (2.5, 4.0), (320, 240))
    settings = GenerationSettings("wedge", images=0, test_images=2, views=views)
    text = generate(root / "wedge.stl", root / "data", settings, [], workers=0)
    assert "test" in text and "train" not in text.splitlines()[2]
    return root / "data"


def test_a_held_out_set_alone_has_no_training_images(folder):
    assert not (folder / "train").exists() and not (folder / "coco_train.json").exists()
    source = open_source(str(folder), "1")
    assert isinstance(source, PartSource) and source.splits == ("test",)
    assert source.object_name == "wedge" and 0.6 < source.diameter < 0.8
    options = BopOptions(min_pixels=50)
    samples = list(open_source(str(folder), "1", bop=options).samples("test", 0))
    centers = [s.rotation @ source.center + s.translation for s in samples]
    assert len(centers) == 2 and all(2.5 <= center[2] <= 4.0 for center in centers)


def test_views_fit_the_mesh_in_metres(folder):
    source = open_source(str(folder), "wedge")
    assert source.mesh is not None
    crop = CropSettings(96, 24, source.crop_padding, BoxNoise(), 0.0, True)
    items, compose = source.training_items(crop), source.composer(crop)
    drawn = [items.item(i, item_generator(0, TRAIN, i)) for i in range(4)]
    batch = compose({key: torch.stack([item[key] for item in drawn]) for key in drawn[0]})
    z = batch["translation"][:, 2]
    assert ((z >= 2.5) & (z <= 4.0)).all()
    assert ((batch["estimate"][:, 2] / z - 1).abs() < 0.5).all()
    renderer = Renderer(source.mesh)
    tree = cKDTree(trimesh.sample.sample_surface(source.mesh, 20000, seed=0)[0])
    for i in range(4):
        R = batch["rotation"][i].double().numpy()
        center, K = batch["translation"][i].double().numpy(), batch["K_crop"][i].double().numpy()
        pixel = K @ center
        assert np.linalg.norm(pixel[:2] / pixel[2] - 47.5) < 24  # near the middle of the crop
        visible, *coordinates = batch["surface"][i].numpy()
        seen = visible > 0
        assert seen.sum() > 20
        depth = renderer.render(R, center - R @ source.center, K, 96, 96).depth
        silhouette = depth.reshape(24, 4, 24, 4).max((1, 3)) > 0
        assert (seen & silhouette).sum() > 0.95 * seen.sum()
        points = np.stack(coordinates)[:, seen].T * source.diameter / 2 + source.center
        assert np.quantile(tree.query(points)[0], 0.9) < 0.03 * source.diameter


def test_a_set_with_training_images_is_read(tmp_path):
    mesh = trimesh.creation.box((80, 40, 55))
    mesh.export(tmp_path / "box.stl")
    views = ViewSettings(resolution=(160, 120), distance=(0.2, 0.35))
    settings = GenerationSettings("box", images=3, test_images=1, views=views)
    generate(tmp_path / "box.stl", tmp_path / "data", settings, [], workers=0)
    assert not isinstance(open_source(str(tmp_path / "data"), "1"), PartSource)


def test_presence_is_fitted_on_views_as_in_the_data_set(folder):
    _, scenes = shown._target(open_source(str(folder), "1"))
    assert (scenes.rotations, scenes.width, scenes.height) == ("uniform", 320, 240)
