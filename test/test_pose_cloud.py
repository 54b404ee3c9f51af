"""What a picture in 3D is made of: poses, the fan of meshes, the ellipsoid, the image's place."""

import contextlib
import io
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from result_tools import two_sided
from spyropose_ros.core.errors import DataError, InputError, SpyroposeError
from spyropose_ros.core.plots import show
from spyropose_ros.core.plots.pose_cloud import MAX_POSES, Mesh, PoseCloud
from spyropose_ros.core.plots.scene import CameraNodes, CameraView, image_depth

DIAMETER, CENTER = 0.1, np.array([0.0, 0.0, 0.03])


def cloud_of(rotations, centres, weights, modes=()):
    translations = centres - rotations @ CENTER
    return PoseCloud(rotations, translations, weights, list(modes), DIAMETER, CENTER, None)


def ring(count=360, share=1.0):
    """Turns about the object's z axis, more probable towards 0."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    weights = 1.5 + np.cos(angles)
    order = np.argsort(-weights, kind="stable")
    rotations = Rotation.from_rotvec(angles[order, None] * [0, 0, 1]).as_matrix()
    centres = np.tile([0.0, 0, 0.5], (count, 1))
    return cloud_of(rotations, centres, share * weights[order] / weights.sum())


def angles_of(rotations):
    return np.sort(np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0]))


def test_the_poses_of_a_distribution_are_chosen_by_mass():
    distribution = two_sided(0)
    cloud = PoseCloud.of(distribution)
    assert len(cloud) <= MAX_POSES and np.isclose(cloud.weights.sum(), 1)
    assert (np.diff(cloud.weights) <= 0).all()
    drawn, _ = cloud.sample(2000)
    for mode in distribution.modes():

        def near(rotations, mode=mode):
            trace = torch.einsum("nij,ij->n", rotations.float(), mode.rotation)
            return (trace > 1 + 2 * np.cos(0.35)).double()

        share = float(near(distribution.rotations) @ distribution.probabilities.double())
        assert share > 0.1 and abs(float(near(drawn).mean()) - share) < 0.02
    assert [mass for *_, mass in cloud.clusters] == [mode.mass for mode in distribution.modes()]


@pytest.mark.parametrize("mass", [0.01, 0.5, 0.9, 1.0])
def test_the_fewest_poses_that_hold_a_mass_are_kept(mass):
    part = ring().holding(mass)
    assert part.weights.sum() >= mass - 1e-9
    assert part.weights[:-1].sum() < mass


def test_all_poses_are_kept_where_they_hold_less_than_is_asked_for():
    assert len(ring(share=0.6).holding(0.9)) == 360


def test_the_ghosts_go_around_a_ring_with_the_mass_of_each_part():
    rotations, _, masses = ring(share=0.6).ghosts(40)
    assert np.isclose(masses.sum(), 0.6)
    angles = angles_of(rotations)
    assert np.diff([*angles, angles[0] + 2 * np.pi]).max() < 1.3  # 5 % are left out
    towards = np.cos(np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0]))
    assert masses[towards > 0.5].mean() > 2 * masses[towards < -0.5].mean()


@pytest.mark.parametrize("mass, count", [(0.1, 5), (0.95, 1)])
def test_the_ghosts_are_limited_and_have_the_modes_among_them(mass, count):
    mode = (Rotation.from_rotvec([0, 0, 2.001]).as_matrix(), np.array([0, 0, 0.47]), mass)
    rotations, translations, masses = cloud_of(*_parts(ring()), modes=[mode]).ghosts(5)
    (at,) = np.flatnonzero((rotations == mode[0]).all((1, 2)))
    assert len(masses) == count and np.isclose(masses.sum(), max(mass, count == 5))
    np.testing.assert_allclose(translations[at], mode[1], atol=1e-6)


def _parts(cloud):
    return cloud.rotations, cloud.centres, cloud.weights


def test_one_pose_is_one_mesh():
    one = cloud_of(np.eye(3)[None], np.array([[0, 0, 0.5]]), np.ones(1))
    rotations, translations, masses = one.ghosts(24)
    assert (len(rotations), masses.tolist()) == (1, [1.0])
    np.testing.assert_allclose(translations[0], [0, 0, 0.47])


@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_the_ellipsoid_holds_the_mass_of_the_centres_and_no_more(mass):
    rng = np.random.default_rng(0)
    centres = [0, 0, 0.5] + rng.standard_normal((500, 3)) * [0.001, 0.002, 0.02]
    rotations = Rotation.random(500, random_state=0).as_matrix()
    ellipsoid = cloud_of(rotations, centres, np.full(500, 0.002)).ellipsoid(mass)
    center, axes, radii = (
        value.double().numpy() for value in (ellipsoid.center, ellipsoid.axes, ellipsoid.semi_axes)
    )
    local = (centres - center) @ axes / radii
    inside = (np.linalg.norm(local, axis=1) <= 1 + 1e-5).mean()
    assert mass <= inside <= mass + 0.01
    assert np.linalg.det(axes) > 0
    assert radii.max() / radii.min() > 10


def test_a_known_centre_still_has_an_ellipsoid():
    assert (ring().ellipsoid(0.9).semi_axes > 0).all()


def test_the_image_closes_the_frustum_where_its_pixels_are_seen():
    """Also with an off-centre principal point and pixels that are not square."""
    import viser

    K = np.array([[50.0, 0, 20], [0, 60.0, 30], [0, 0, 1]])
    view = CameraView(K, np.eye(4), np.zeros((48, 64, 3), np.uint8))
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer("127.0.0.1", 0, verbose=False)
        try:
            nodes = CameraNodes(server.scene, "/camera", view)
            depth = image_depth(view, [ring()])
            nodes.draw(view, depth)
            image, corners = nodes._image, nodes._edges.points[4:, 0]
        finally:
            server.stop()
    assert depth > 0.5 + DIAMETER / 2
    pixels = corners @ K.T
    outline = [[-0.5, -0.5], [63.5, -0.5], [63.5, 47.5], [-0.5, 47.5]]
    np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], outline, atol=1e-3)
    half = np.array([image.render_width, image.render_height, 0]) / 2
    np.testing.assert_allclose(image.position + half, corners[2], atol=1e-5)
    np.testing.assert_allclose(image.position - half, corners[0], atol=1e-5)


@pytest.mark.parametrize("K", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.eye(2)])
def test_a_camera_without_calibration_is_refused(K):
    with pytest.raises(InputError, match="calibrated"):
        CameraView(K, np.eye(4), np.zeros((4, 4, 3), np.uint8))


def test_a_damaged_mesh_is_named(tmp_path):
    path = tmp_path / "mesh.ply"
    path.write_text("ply\nnothing")
    with pytest.raises(DataError, match="mesh.ply cannot be read as a mesh"):
        Mesh.read(path)


def test_without_viser_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(SpyroposeError, match="pip install 'viser>=1.1,<2'"):
        show(two_sided(0))


def test_a_page_is_written_without_a_word_of_the_server(tmp_path, capsys):
    two_sided(0).show(path=tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 1e5
    assert capsys.readouterr() == ("", "")


def test_a_distribution_without_a_size_is_refused(tmp_path):
    distribution = two_sided(0)
    distribution.diameter = None
    with pytest.raises(InputError, match="has no diameter"):
        distribution.show(path=tmp_path / "page.html")
