"""The shapes against their definition: geometry, symmetries, shading and equivalent poses."""

import multiprocessing
import pickle
from itertools import islice

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import ConvexHull, cKDTree
from scipy.spatial.transform import Rotation

from spyropose_ros.core.camera import project
from spyropose_ros.scenes.detector import BoxNoise
from training.data.shape_images import HIDDEN_ROTATIONS, ShapeImages, uniform_rotations
from training.data.shape_models import SHAPES, make_shape
from training.data.shapes import TEST_IMAGES, ShapesSource
from training.data.source import CropSettings
from training.data.whole_image import TRANSLATION, pinhole

ORDERS = {
    "cone": 360,
    "cyl": 720,
    "tet": 12,
    "cube": 24,
    "ico": 60,
    "sphX": 4,
    "cylO": 1,
    "tetX": 3,
}
PLAIN = ["cone", "cyl", "tet", "cube", "ico"]
MARKED = ["sphX", "cylO", "tetX"]
# Equal poses give equal images but for rays that meet an edge or the silhouette within rounding.
EDGE_PIXELS = 4


def crop_settings(resolution=64):
    return CropSettings(resolution, resolution // 4, 1.3, BoxNoise(), 0.0, False)


def different_pixels(a, b):
    """Pixels whose colours differ by more than rounding."""
    return int((np.abs(a.astype(int) - b).max(-1) > 1).sum())


@pytest.fixture(scope="module")
def images():
    """Renderers at 64 px by name."""
    return {name: ShapeImages(make_shape(name), 64) for name in SHAPES}


# --- geometry and symmetries -----------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_bounding_sphere_has_diameter_one_and_is_centred(name):
    mesh = make_shape(name).mesh
    assert mesh.is_watertight and mesh.volume > 0  # normals point outwards
    center, radius = trimesh.nsphere.minimum_nsphere(mesh)
    np.testing.assert_allclose(center, 0, atol=1e-9)
    assert radius == pytest.approx(0.5, abs=1e-9)


def test_proportions():
    """Against closed forms for the solids of the paper, each in its bounding sphere."""
    cone, cylinder = make_shape("cone").mesh, make_shape("cyl").mesh
    np.testing.assert_allclose(np.ptp(cone.vertices, axis=0), [2 / 2.9, 2 / 2.9, 2.5 / 2.9])
    assert cone.vertices[cone.vertices[:, 2].argmax()] == pytest.approx([0, 0, 0.5])  # the apex
    np.testing.assert_allclose(np.ptp(cylinder.vertices, axis=0), np.full(3, 2 / np.sqrt(8)))
    areas = {
        "tet": np.sqrt(3) * 2 / 3,
        "cube": 2.0,
        "ico": 5 * np.sqrt(3) / 4 / np.sin(0.4 * np.pi) ** 2,
    }
    for name, area in areas.items():
        mesh = make_shape(name).mesh
        assert mesh.area == pytest.approx(area)
        angles = mesh.face_angles if name != "cube" else np.full(1, np.pi / 3)
        np.testing.assert_allclose(angles, np.pi / 3)  # equilateral


def test_how_the_solids_stand():
    tetrahedron = make_shape("tet").mesh.vertices
    assert tetrahedron[tetrahedron[:, 2].argmax()] == pytest.approx([0, 0, 0.5])
    assert tetrahedron[tetrahedron[:, 1].argmax()] == pytest.approx([0, np.sqrt(2) / 3, -1 / 6])
    np.testing.assert_allclose(np.abs(make_shape("cube").mesh.vertices), 1 / np.sqrt(12))


@pytest.mark.parametrize("name", SHAPES)
def test_symmetries_are_a_group_of_rotations(name):
    shape = make_shape(name)
    for group in (shape.symmetries, shape.unmarked_symmetries):
        if group is None:
            continue
        np.testing.assert_allclose(group[0], np.eye(3), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(group), 1)
        np.testing.assert_allclose(
            group @ group.mT, np.broadcast_to(np.eye(3), group.shape), atol=1e-9
        )
        tree = cKDTree(group.reshape(-1, 9))
        products = (group[:, None] @ group[:: max(1, len(group) // 12)]).reshape(-1, 9)
        assert tree.query(products)[0].max() < 1e-9  # closed
        assert len(tree.query_pairs(1e-3)) == 0  # no duplicates
    assert len(shape.symmetries) == ORDERS[name]


@pytest.mark.parametrize("name", [*PLAIN, "cylO", "tetX"])
def test_symmetries_leave_the_solid_unchanged(name):
    shape = make_shape(name)
    group = shape.symmetries if shape.mark is None else shape.unmarked_symmetries
    tree = cKDTree(shape.mesh.vertices)
    for rotation in group:
        assert tree.query(shape.mesh.vertices @ rotation.T)[0].max() < 1e-9


@pytest.mark.parametrize("name", ["tet", "cube", "ico"])
def test_there_are_no_other_symmetries(name):
    """Every rotation that carries three corners onto corners and the solid onto itself."""
    shape = make_shape(name)
    corners = np.unique(shape.mesh.vertices.round(9), axis=0)
    tree = cKDTree(corners)
    triples = np.stack(np.meshgrid(*[np.arange(len(corners))] * 3), -1).reshape(-1, 3)
    basis = (
        corners[[0, 1, 2]] if abs(np.linalg.det(corners[[0, 1, 2]])) > 1e-6 else corners[[0, 1, 4]]
    )
    candidates = np.linalg.solve(basis[None], corners[triples]).mT  # basis rows -> triple rows
    gram = candidates @ candidates.mT
    proper = np.abs(gram - np.eye(3)).max((1, 2)) < 1e-6
    proper &= np.linalg.det(candidates) > 0
    found = [g for g in candidates[proper] if tree.query(corners @ g.T)[0].max() < 1e-6]
    assert len(found) == ORDERS[name]


@pytest.mark.parametrize("name", MARKED)
def test_symmetries_keep_the_mark(name):
    shape = make_shape(name)
    points = trimesh.sample.sample_surface(shape.mesh, 20_000, seed=0)[0]
    painted = shape.mark(points)
    assert 0.01 < painted.mean() < 0.3
    for rotation in shape.symmetries:
        assert (shape.mark(points @ rotation.T) != painted).mean() < 1e-3
    others = shape.unmarked_symmetries
    if others is not None:  # and the others do not
        moved = [(shape.mark(points @ g.T) != painted).mean() for g in others]
        assert sum(share < 1e-3 for share in moved) == len(shape.symmetries)


def test_an_unknown_shape_is_named():
    with pytest.raises(ValueError, match="no shape 'sphere': choose from cone, cyl, tet"):
        make_shape("sphere")


# --- pictures --------------------------------------------------------------------------------


def test_camera():
    K = pinhole(224)
    np.testing.assert_allclose(K, [[258.4615385, 0, 111.5], [0, 258.4615385, 111.5], [0, 0, 1]])


def test_shading_of_a_cube_face_on():
    """The near face lies at z = 1.5 - 1 / sqrt(12) and is seen under the angle of each ray."""
    image = ShapeImages(make_shape("cube"), 224).image(np.eye(3))
    half = 1 / np.sqrt(12)
    extent = half / (1.5 - half) * pinhole(224)[0, 0]  # from the middle, pixels
    v, u = np.indices((224, 224)) - 111.5
    inside = np.maximum(abs(u), abs(v)) < extent
    cosine = 1 / np.sqrt(1 + (u**2 + v**2) / pinhole(224)[0, 0] ** 2)
    expected = np.where(inside, np.rint(255 * (0.1 + 0.85 * cosine)), 0)
    np.testing.assert_allclose(image, np.repeat(expected[..., None], 3, 2), atol=1)
    assert image[0, 0].tolist() == [0, 0, 0]


def test_shading_of_the_sphere():
    """Exact at the middle, ambient at the rim, and round."""
    image = ShapeImages(make_shape("sphX"), 225).image(np.diag([1.0, -1.0, -1.0]))  # X in front
    plain = ShapeImages(make_shape("sphX"), 225).image(np.eye(3))
    assert plain[112, 112].tolist() == [round(255 * 0.95)] * 3
    assert image[112, 112].tolist() == [round(255 * 0.95 * c) for c in (0.9, 0.1, 0.1)]
    focal = pinhole(225)[0, 0]
    v, u = np.indices((225, 225)) - 112
    tangent = 0.5 / np.sqrt(1.5**2 - 0.5**2)
    assert ((plain.max(-1) > 0) == (np.hypot(u, v) < focal * tangent)).all()
    assert plain[plain > 0].min() < 255 * 0.2


@pytest.mark.parametrize("name", [*PLAIN, "cylO", "tetX"])
def test_pictures_show_the_projected_mesh(name):
    """A pixel shows the solid if its centre lies in the convex hull of the projected corners."""
    shape = make_shape(name)
    rotation = uniform_rotations(1, 5)[0]
    mask = ShapeImages(shape, 224).image(rotation).max(-1) > 0
    points = torch.from_numpy(shape.mesh.vertices @ rotation.T + TRANSLATION)
    pixels = project(torch.from_numpy(pinhole(224)), points)[0].numpy()
    sides = ConvexHull(pixels).equations  # outward normal and offset of each side
    centres = np.stack(np.meshgrid(np.arange(224), np.arange(224)), -1)
    inside = (centres @ sides[:, :2].T + sides[:, 2]).max(-1) < 0
    assert (mask != inside).sum() <= EDGE_PIXELS


def test_flat_faces_have_flat_normals():
    """At any pose a cube shows at most three grey levels but for the falloff with the ray."""
    image = ShapeImages(make_shape("cube"), 224).image(uniform_rotations(1, 1)[0])[..., 0]
    change = np.abs(np.diff(image.astype(int), axis=1))
    inside = (image[:, 1:] > 0) & (image[:, :-1] > 0)
    assert (change[inside] > 4).mean() < 0.03  # only across edges


# --- equivalent poses ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_equivalent_poses_look_the_same(images, name):
    rng = np.random.default_rng(0)
    counts = set()
    for rotation in uniform_rotations(8, 1):
        equivalents = images[name].equivalents(rotation)
        counts.add(len(equivalents))
        np.testing.assert_allclose(equivalents[0], rotation, atol=1e-12)
        image = images[name].image(rotation)
        for other in rng.permutation(equivalents)[:4]:
            assert different_pixels(images[name].image(other), image) <= EDGE_PIXELS
    if name in PLAIN:
        assert counts == {ORDERS[name]}
    else:
        assert ORDERS[name] in counts and max(counts) > ORDERS[name]


def test_the_mark_decides(images):
    """Visible: its own symmetries. Hidden: all poses that hide it, and no others."""
    shape = make_shape("cylO")
    turns = Rotation.from_euler("y", [[90], [-90]], degrees=True)  # +x to -z and +z
    towards, away = turns.as_matrix()
    assert len(images["cylO"].equivalents(towards)) == 1
    hidden = images["cylO"].equivalents(away)
    image = images["cylO"].image(away)
    assert set(map(tuple, image.reshape(-1, 3))) <= {(i, i, i) for i in range(256)}
    same = [
        g
        for g in shape.unmarked_symmetries[::6]
        if different_pixels(images["cylO"].image(away @ g), image) <= EDGE_PIXELS
    ]
    expected = cKDTree(hidden.reshape(-1, 9))
    found = expected.query((away @ np.stack(same)).reshape(-1, 9))[0] < 1e-9
    assert found.all()
    assert len(same) == pytest.approx(len(hidden) / 6, abs=2)


def test_tetrahedron_with_its_painted_face_hidden(images):
    """Seen along a corner, three faces show; the base may be any of the four but those three."""
    corner_to_camera = np.diag([1.0, -1.0, -1.0])
    assert len(images["tetX"].equivalents(corner_to_camera)) == 3
    base_to_camera = np.eye(3)
    assert len(images["tetX"].equivalents(base_to_camera)) == 3
    # Seen along another corner's face normal, one face shows and the base may be any other.
    shape = make_shape("tetX")
    normals = shape.mesh.face_normals
    face = normals[normals[:, 2] > 0][0]
    turn = Rotation.align_vectors([[0.0, 0.0, -1.0]], [face])[0].as_matrix()
    assert len(images["tetX"].equivalents(turn)) == 9


def test_rotations_that_hide_the_spheres_mark_are_uniform(images):
    """The mark's direction is uniform over what hides it, and so is the turn about it."""
    hidden = images["sphX"].equivalents(np.eye(3))
    assert len(hidden) == HIDDEN_ROTATIONS
    towards_camera = -hidden[:, 2, 2]  # cosine between the mark and the direction to the camera
    limit = np.quantile(towards_camera, 0.98)
    assert limit < 1 / 3  # the horizon
    uniform = (np.sort(towards_camera[towards_camera < limit]) + 1) / (limit + 1)
    assert np.abs(uniform - np.linspace(0, 1, len(uniform))).max() < 0.04
    turn = np.sort(np.arctan2(hidden[1:, 2, 1], hidden[1:, 2, 0]) / (2 * np.pi) + 0.5)
    assert np.abs(turn - np.linspace(0, 1, len(turn))).max() < 0.04
    candidates = uniform_rotations(1000, 9)
    share = np.mean([len(images["sphX"].equivalents(r)) == HIDDEN_ROTATIONS for r in candidates])
    visible_grey = images["sphX"].image(np.eye(3))
    for rotation in candidates[:50]:
        unpainted = different_pixels(images["sphX"].image(rotation), visible_grey) == 0
        assert unpainted == (len(images["sphX"].equivalents(rotation)) == HIDDEN_ROTATIONS)
    assert 0.4 < share < 0.55


# --- the source ------------------------------------------------------------------------------


def test_numbers_of_images_and_seeds():
    source = ShapesSource("cube")
    training = source.training_items(crop_settings())
    validation = source.validation_items(crop_settings())
    assert (len(training), len(validation)) == (45_000, 500)
    for items, seed, index in ((training, 0, 44_999), (validation, 2, 499)):
        expected = Rotation.random(len(items), random_state=seed).as_matrix()[index]
        np.testing.assert_allclose(items.item(index, None)["rotation"], expected, atol=1e-6)
    test = Rotation.random(5_000, random_state=1).as_matrix()
    for index, sample in enumerate(islice(source.samples("test", 0), 5)):
        np.testing.assert_allclose(sample.rotation, test[index], atol=1e-12)
        assert sample.id == f"cube_{index:05d}" and sample.box is None
    assert TEST_IMAGES == 5_000


def test_items_and_samples_agree():
    """The same pose gives the same picture either way."""
    source = ShapesSource("ico", resolution=64)
    sample = next(source.samples("test", 0))
    assert sample.equivalents is None and sample.image.shape == (64, 64, 3)
    images = ShapeImages(make_shape("ico"), 64)
    np.testing.assert_array_equal(sample.image, images.image(sample.rotation))
    item = source.training_items(crop_settings(64)).item(7, None)
    np.testing.assert_array_equal(
        item["crop"].permute(1, 2, 0), images.image(uniform_rotations(8, 0)[7])
    )
    np.testing.assert_allclose(item["K_crop"], sample.K, rtol=1e-6)
    assert item["estimate"].tolist() == item["translation"].tolist() == [0, 0, 1.5]
    marked = next(ShapesSource("tetX").samples("test", 0))
    assert marked.image.shape == (224, 224, 3) and marked.equivalents.shape[1:] == (3, 3)
    with pytest.raises(ValueError, match="no split 'dev': choose from test"):
        next(source.samples("dev", 0))


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_source_says_of_itself(name):
    source = ShapesSource(name)
    assert (source.name, source.object_name) == (f"shapes/{name}", name)
    assert source.rotation_only and source.has_intrinsics and source.diameter == 1
    assert 0.4 < source.size_ratio[0] < 1.5
    target = source.target()
    assert target.symmetries.shape == (ORDERS[name], 4, 4)
    largest = {"cone": np.sqrt(1 + 2.5**2) / 2.9, "tet": np.sqrt(2 / 3), "tetX": np.sqrt(2 / 3)}
    assert target.diameter == pytest.approx(largest.get(name, 1.0), abs=1e-6)


@pytest.mark.parametrize("name", ["cyl", "sphX"])
def test_items_survive_another_process(name):
    items = ShapesSource(name).training_items(crop_settings())
    expected = items.item(3, None)["crop"].numpy()
    copied = pickle.loads(pickle.dumps(items)).item(3, None)["crop"].numpy()
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a fork lacks other tests' threads
        elsewhere = pool.apply(items.item, (3, None))["crop"].numpy()
    for crop in (elsewhere, copied):
        np.testing.assert_array_equal(crop, expected)
