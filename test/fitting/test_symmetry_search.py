"""Symmetries that are found in meshes: groups, axes of revolution, and what has none."""

import json

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from trimesh import creation

from spyropose_ros import bop
from spyropose_ros.scenes.mug import make_mug
from training.generate.symmetry import symmetry_of
from training.symmetry import find_symmetry, group

CUBE = "3 axes of 90 degrees, 4 axes of 120 degrees, 6 axes of 180 degrees"
ICOSAHEDRON = "6 axes of 72 degrees, 10 axes of 120 degrees, 15 axes of 180 degrees"


def box(*sides) -> trimesh.Trimesh:
    return creation.box(sides)


def tetrahedron() -> trimesh.Trimesh:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.04
    return trimesh.Trimesh(corners, [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])


def prism(sides: int) -> trimesh.Trimesh:
    return creation.cylinder(0.05, 0.03, sections=sides)


def with_key() -> trimesh.Trimesh:
    return creation.cylinder(0.03, 0.1) + box(0.01, 0.01, 0.03).apply_translation((0.03, 0, 0.03))


def with_inner_part() -> trimesh.Trimesh:
    """A can with something inside that nobody sees."""
    inner = box(0.01, 0.02, 0.03).apply_translation((0.01, 0.003, 0.02))
    return creation.cylinder(0.03, 0.1) + inner


def displaced(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """At another place, turned by what is no symmetry of anything."""
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_rotvec([0.4, -0.7, 0.2]).as_matrix()
    transform[:3, 3] = [0.3, -0.1, 0.5]
    return mesh.copy().apply_transform(transform)


def scanned(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Other triangles, and vertices that are off by 0.4 % of the size."""
    mesh = mesh.subdivide().subdivide().subdivide()
    mesh.vertices += np.random.default_rng(0).normal(scale=0.004, size=(len(mesh.vertices), 3)) * (
        mesh.scale
    )
    return mesh


@pytest.mark.parametrize(
    ("mesh", "count", "words"),
    [
        (box(0.1, 0.1, 0.1), 24, CUBE),
        (box(0.1, 0.06, 0.04), 4, "3 axes of 180 degrees"),
        (box(0.2, 0.012, 0.006), 4, "3 axes of 180 degrees"),
        (creation.cylinder(0.004, 0.2), 630, "any rotation about z, and half a turn across it"),
        (box(0.1, 0.1, 0.04), 8, "1 axis of 90 degrees, 4 axes of 180 degrees"),
        (creation.cylinder(0.03, 0.1), 630, "any rotation about z, and half a turn across it"),
        (creation.cone(0.04, 0.1), 315, "any rotation about z"),
        (tetrahedron(), 12, "4 axes of 120 degrees, 3 axes of 180 degrees"),
        (creation.icosahedron().apply_scale(0.05), 60, ICOSAHEDRON),
        (prism(8), 16, "1 axis of 45 degrees, 8 axes of 180 degrees"),
        (prism(16), 630, "any rotation about z, and half a turn across it"),
        (creation.icosphere(3, 0.05), 945, "any rotation"),
        (make_mug().mesh, 1, "no rotation"),
        (with_key(), 1, "no rotation"),
        (with_inner_part(), 630, "any rotation about z, and half a turn across it"),
    ],
    ids=lambda value: None if isinstance(value, trimesh.Trimesh) else str(value)[:12],
)
def test_symmetries_of_shapes(tmp_path, mesh, count, words):
    """As the reader of data sets sees them; each leaves the surface where it is."""
    found = find_symmetry(mesh)
    assert found.words() == words
    entry = bop.describe_model(mesh, half_turn=False) | found.entry()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "models_info.json").write_text(json.dumps({"1": entry}))
    symmetries = bop.load_models_info(tmp_path)[1].symmetries
    assert len(symmetries) == count
    np.testing.assert_allclose(symmetries[0], np.eye(4), atol=1e-9)
    if mesh.body_count == 1:  # nothing inside
        points = trimesh.sample.sample_surface(mesh, 20000, seed=3)[0]
        for S in symmetries[:: 1 + len(symmetries) // 5]:
            far = cKDTree(points).query(points[:300] @ S[:3, :3].T + S[:3, 3])[0]
            assert far.max() < 0.03 * mesh.scale


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        (box(0.1, 0.1, 0.1), CUBE),
        (creation.icosahedron().apply_scale(0.05), ICOSAHEDRON),
        (prism(6), "1 axis of 60 degrees, 6 axes of 180 degrees"),
    ],
    ids=["cube", "icosahedron", "nut"],
)
def test_groups_stay_groups_in_scans_at_any_place(mesh, words):
    found = find_symmetry(scanned(displaced(mesh)))
    assert found.words() == words
    np.testing.assert_allclose(found.center, [0.3, -0.1, 0.5], atol=5e-4)
    elements = found.rotations
    for element in elements:  # exact, although what was measured is not
        assert group.angles(elements, element @ elements[-1]).min() < 1e-6
        assert group.angles(elements, element.T).min() < 1e-6
    turn = Rotation.from_rotvec([0.4, -0.7, 0.2]).as_matrix()
    true = find_symmetry(mesh).rotations
    off = [group.angles(turn @ true @ turn.T, element).min() for element in elements]
    assert np.degrees(max(off)) < 1


def test_an_axis_of_revolution_at_any_place():
    found = find_symmetry(scanned(displaced(creation.cylinder(0.03, 0.1))))
    axis = Rotation.from_rotvec([0.4, -0.7, 0.2]).as_matrix()[:, 2]
    assert abs(found.axes[0] @ axis) > np.cos(np.radians(1))
    assert found.words().startswith("any rotation about the axis (")
    across = found.rotations[1]
    np.testing.assert_allclose(across @ found.axes[0], -found.axes[0], atol=1e-9)


def test_auto_is_what_is_found():
    mesh = box(0.1, 0.06, 0.04)
    assert len(symmetry_of("auto", mesh).rotations) == 4
