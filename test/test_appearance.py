"""The box of an object is that of its mesh, or of its bounding sphere."""

import pytest
import trimesh

from spyropose_ros.core.bundle import BundleError, ObjectInfo
from spyropose_ros.ros.pipeline.appearance import appearance_of

VERTICES = b"element vertex 9\nproperty float x\nproperty float y\nproperty float z\n"
BINARY = b"ply\nformat binary_little_endian 1.0\n" + VERTICES + b"end_header\n"
CONTENTS = [
    *(b"", b"ply\n", b"\x00\xff" * 50),
    *(BINARY, BINARY.replace(b"9", b"0"), BINARY[:-1], BINARY.replace(b"float", b"colour")),
    *(BINARY.replace(b"binary_little_endian", kind) + 2 * b"0 1 2\n" for kind in (b"ascii", b"x")),
]
INFO = ObjectInfo("mug", [0, 0.01, 0.05], 0.2, 1.0, 0.1, [])


def test_without_a_mesh_it_is_the_cube_around_the_bounding_sphere():
    look = appearance_of(INFO, None)
    assert (look.size, look.mesh) == (0.2, None)
    assert (look.center, look.extents) == ((0.0, 0.01, 0.05), (0.2, 0.2, 0.2))
    assert all(isinstance(value, float) for value in look.center + look.extents)


@pytest.mark.parametrize("encoding", ["binary", "ascii"])
def test_with_a_mesh_it_is_the_box_around_it(tmp_path, encoding):
    box = trimesh.creation.box(extents=(0.1, 0.06, 0.04))
    box.apply_translation((0.01, 0.02, 0.03))
    path = tmp_path / "mesh of a mug.ply"
    box.visual.vertex_colors = [200, 100, 50, 255]  # between the vertices' coordinates
    box.export(path, encoding=encoding)
    look = appearance_of(INFO, path)
    assert look.size == 0.2
    assert look.mesh == path.as_uri()
    assert look.center == pytest.approx((0.01, 0.02, 0.03), abs=1e-6)
    assert look.extents == pytest.approx((0.1, 0.06, 0.04), abs=1e-6)
    assert all(isinstance(value, float) for value in look.center + look.extents)


@pytest.mark.parametrize("content", CONTENTS)
def test_a_damaged_mesh_is_named(tmp_path, content):
    path = tmp_path / "mesh.ply"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"mesh\.ply cannot be read as a mesh .*replace it"):
        appearance_of(INFO, path)
