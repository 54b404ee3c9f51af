"""The renderer against geometry, and what the sampler says of a scene against the scene."""

import multiprocessing
import pickle

import cv2
import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from spyropose_ros.core.camera import apparent_size_ratio, translation_from_boxes
from spyropose_ros.scenes.camera_effects import CameraEffects
from spyropose_ros.scenes.chance import Chance
from spyropose_ros.scenes.clutter import background, uneven_light
from spyropose_ros.scenes.detector import BoxNoise, MeasuredNoise, noisy_box, noisy_boxes
from spyropose_ros.scenes.mug import HANDLE_REACH, HEIGHT, RADIUS, make_mug
from spyropose_ros.scenes.renderer import Light, Renderer, bounding_sphere, shade
from spyropose_ros.scenes.sampler import SceneSampler, SceneSettings, mask_box
from training.data.rendered_objects import load_object_model, scene_settings
from training.detector.matching import box_errors

K = np.array([[300.0, 0, 70.3], [0, 310.0, 55.8], [0, 0, 1]])
WIDTH, HEIGHT_PX = 160, 120


@pytest.fixture(scope="module")
def mug():
    return make_mug()


@pytest.fixture(scope="module")
def sampler():
    return SceneSampler(load_object_model("mug"), SceneSettings(sprites=40))


@pytest.fixture(scope="module")
def scenes(sampler):
    return [sampler.sample(np.random.default_rng(seed)) for seed in range(40)]


def random_poses(count, distance=0.5, seed=0):
    rng = np.random.default_rng(seed)
    for rotation in Rotation.random(count, random_state=rng).as_matrix():
        yield rotation, np.append(rng.uniform(-0.03, 0.03, 2), distance)


# --- mug -------------------------------------------------------------------------------------


def test_mug_is_closed_small_and_stands_on_its_origin(mug):
    assert mug.mesh.is_watertight
    assert mug.mesh.volume > 0
    assert len(mug.mesh.faces) <= 3000
    reach = RADIUS + HANDLE_REACH
    expected = [[-RADIUS, -RADIUS, 0], [reach, RADIUS, HEIGHT]]
    np.testing.assert_allclose(mug.mesh.bounds, expected, atol=2e-4)


def test_mug_without_handle_is_symmetric(mug):
    assert mug.handle_faces.shape == (len(mug.mesh.faces),)
    body = mug.mesh.submesh([~mug.handle_faces], append=True)
    handle = mug.mesh.submesh([mug.handle_faces], append=True)
    assert body.is_watertight and handle.is_watertight
    step = Rotation.from_euler("z", 2 * np.pi / 48).as_matrix()
    turned = trimesh.proximity.ProximityQuery(body).vertex(body.vertices @ step.T)[0]
    assert turned.max() < 1e-9
    outside = np.hypot(*handle.vertices.T[:2]) > RADIUS
    assert outside.mean() > 0.8
    assert (handle.vertices[:, 0] > 0).all()


def test_mug_handle_does_not_reach_into_the_cup(mug):
    handle = mug.mesh.submesh([mug.handle_faces], append=True)
    assert np.hypot(*handle.vertices.T[:2]).min() > RADIUS - 0.004


# --- renderer --------------------------------------------------------------------------------


def test_depth_and_normals_of_a_ball():
    radius, center = 0.1, np.array([0.03, -0.02, 0.8])
    ball = trimesh.creation.icosphere(5, radius)
    buffer = Renderer(ball).render(np.eye(3), center, K, WIDTH, HEIGHT_PX)
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT_PX))
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], -1)
    a, b = (rays**2).sum(-1), rays @ center
    root = b**2 - a * (center @ center - radius**2)
    depth = (b - np.sqrt(np.maximum(root, 0))) / a
    inner = root > 0.02 * radius**2  # away from the grazing rays at the rim
    assert inner.sum() > 2000
    np.testing.assert_allclose(buffer.depth[inner], depth[inner], atol=3e-4)
    assert buffer.mask[inner].all()
    assert not buffer.mask[root < -1e-4].any()
    assert buffer.depth.dtype == np.float32

    normals = (rays * depth[..., None] - center) / radius
    np.testing.assert_allclose(buffer.normals[inner], normals[inner], atol=0.02)
    assert (buffer.depth[~buffer.mask] == 0).all()
    assert (buffer.normals[~buffer.mask] == 0).all()


def test_depth_of_a_tilted_plane_is_exact():
    half_thickness = 0.01
    slab = trimesh.creation.box((2, 2, 2 * half_thickness))
    rotation = Rotation.from_euler("xy", [0.5, -0.4]).as_matrix()
    translation = np.array([0.1, -0.05, 0.9])
    buffer = Renderer(slab).render(rotation, translation, K, WIDTH, HEIGHT_PX)
    normal = -rotation[:, 2]  # of the front
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT_PX))
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], -1)
    depth = (normal @ translation + half_thickness) / (rays @ normal)
    assert buffer.mask.all()
    np.testing.assert_allclose(buffer.depth, depth, rtol=2e-6)
    slab.unmerge_vertices()  # flat faces, each with its own normals
    buffer = Renderer(slab).render(rotation, translation, K, WIDTH, HEIGHT_PX)
    np.testing.assert_allclose(buffer.normals, np.broadcast_to(normal, rays.shape), atol=1e-5)


@pytest.mark.parametrize("shift", [-0.4, -0.01, 0.0, 0.01, 0.3, 0.49])
def test_pixel_centres_lie_at_integers(shift):
    """A rectangle covers exactly the pixels whose centres are inside its projection."""
    left, right, top, bottom = 30 + shift, 91 - shift, 20.5 + shift, 80.5 + shift
    x = (np.array([left, right]) - K[0, 2]) / K[0, 0]
    y = (np.array([top, bottom]) - K[1, 2]) / K[1, 1]
    plate = trimesh.creation.box((np.ptp(x), np.ptp(y), 0.002))
    translation = np.array([x.mean(), y.mean(), 1.001])  # the front is at z = 1
    buffer = Renderer(plate).render(np.eye(3), translation, K, WIDTH, HEIGHT_PX)
    columns, rows = np.flatnonzero(buffer.mask.any(0)), np.flatnonzero(buffer.mask.any(1))
    if shift:  # else the edge runs through pixel centres and either is right
        assert (columns[0], columns[-1]) == (np.ceil(left), np.floor(right))
    assert (rows[0], rows[-1]) == (np.ceil(top), np.floor(bottom))
    assert buffer.mask[np.ix_(rows, columns)].all()


def test_silhouette_agrees_with_projected_vertices(mug):
    renderer = Renderer(mug.mesh)
    for rotation, translation in random_poses(20, distance=0.8):
        buffer = renderer.render(rotation, translation, K, WIDTH, HEIGHT_PX)
        vector = Rotation.from_matrix(rotation).as_rotvec()
        pixels = cv2.projectPoints(np.array(mug.mesh.vertices), vector, translation, K, None)[0]
        pixels = pixels[:, 0]
        bounds = np.concatenate([pixels.min(0), pixels.max(0)])
        np.testing.assert_allclose(
            renderer.bounds(rotation, translation, K), bounds, rtol=0, atol=1e-3
        )
        box = mask_box(buffer.mask)
        # The outermost pixel centres lie inside the outline, less than a pixel from it (a pointed
        # outline may slip between two centres).
        assert (box[:2] + 0.5 >= bounds[:2] - 1e-3).all()
        assert (box[2:] - 0.5 <= bounds[2:] + 1e-3).all()
        assert np.abs(box - bounds).max() < 1.5


def test_rendering_a_part_of_the_image_moves_the_principal_point_only(mug):
    renderer = Renderer(mug.mesh)
    rotation, translation = next(random_poses(1))
    whole = renderer.render(rotation, translation, K, WIDTH, HEIGHT_PX)
    part_K = K - [[0, 0, 40], [0, 0, 30], [0, 0, 0]]
    part = renderer.render(rotation, translation, part_K, 50, 45)
    assert part.mask.any()
    np.testing.assert_array_equal(part.face, whole.face[30:75, 40:90])
    np.testing.assert_allclose(part.depth, whole.depth[30:75, 40:90], rtol=1e-6)


def test_faces_and_vertex_colours():
    box = trimesh.creation.box((0.2, 0.2, 0.2))
    box.unmerge_vertices()
    colours = np.zeros((len(box.vertices), 4), np.uint8)
    colours[:, 3] = 255
    front = np.flatnonzero(box.face_normals[:, 2] < -0.5)
    colours[box.faces[front].ravel(), 1] = 255
    box.visual.vertex_colors = colours
    buffer = Renderer(box).render(np.eye(3), np.array([0, 0, 1.0]), K, WIDTH, HEIGHT_PX)
    assert set(np.unique(buffer.face)) == {-1, *front}
    expected = np.broadcast_to([0, 1, 0], (buffer.mask.sum(), 3))
    np.testing.assert_allclose(buffer.albedo[buffer.mask], expected, atol=1e-6)


def test_nothing_in_view(mug):
    renderer = Renderer(mug.mesh)
    buffer = renderer.render(np.eye(3), np.array([5.0, 0, 1.0]), K, WIDTH, HEIGHT_PX)
    assert not buffer.mask.any()
    behind = renderer.render(np.eye(3), np.array([0, 0, -1.0]), K, WIDTH, HEIGHT_PX)
    assert not behind.mask.any()


def test_light_adds_up():
    albedo = np.array([[0.5, 0.2, 1.0]], np.float32)
    normals = np.array([[0, 0, -1]], np.float32)
    directions = np.array([[0, 0, -1], [0, 0, 1]], np.float32)
    colours = np.array([[0.5, 0.5, 0.5], [9, 9, 9]])  # the second light is behind
    light = Light(np.full(3, 0.3), directions, colours, specular=0.0, shininess=10.0)
    np.testing.assert_allclose(shade(albedo, normals, light), albedo * 0.8, rtol=1e-6)
    glossy = Light(np.full(3, 0.3), directions[:1], colours[:1], specular=0.4, shininess=10.0)
    np.testing.assert_allclose(shade(albedo, normals, glossy), albedo * 0.8 + 0.2, rtol=1e-6)


# --- sampler ---------------------------------------------------------------------------------


def test_the_seed_decides_everything(sampler):
    first, again, other = (sampler.sample(np.random.default_rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.rotation, again.rotation)
    assert not np.array_equal(first.translation, other.translation)


def image_sum(sampler):
    return int(sampler.sample(np.random.default_rng(3)).image.sum())


def test_forked_and_pickled_samplers_make_the_same_scenes(sampler):
    expected = image_sum(sampler)  # the parent has rendered before it forks
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(cv2.getNumThreads).get(timeout=60) == 1  # the pool is the parent's
        assert pool.apply_async(image_sum, (sampler,)).get(timeout=60) == expected
    assert image_sum(pickle.loads(pickle.dumps(sampler))) == expected


def test_scenes_are_what_they_say(sampler, scenes):
    model, settings = sampler.model, sampler.settings
    renderer = Renderer(model.mesh)
    occluded = 0
    for scene in scenes:
        height, width = scene.mask.shape
        assert scene.image.shape == (height, width, 3) and scene.image.dtype == np.uint8
        np.testing.assert_allclose(scene.rotation @ scene.rotation.T, np.eye(3), atol=1e-9)
        buffer = renderer.render(scene.rotation, scene.translation, scene.K, width, height)
        assert not (scene.mask & ~buffer.mask).any()
        np.testing.assert_array_equal(scene.box, mask_box(scene.mask))

        large = scene.K + [[0, 0, 500], [0, 0, 500], [0, 0, 0]]
        alone = renderer.render(scene.rotation, scene.translation, large, 1500, 1500)
        fraction = scene.mask.sum() / alone.mask.sum()
        assert scene.visible_fraction == pytest.approx(fraction, abs=0.005)
        assert fraction >= settings.min_visible_fraction - 0.005
        assert np.count_nonzero(scene.silhouette != buffer.mask) <= 3  # rounding at the outline
        assert scene.full_count == pytest.approx(alone.mask.sum(), abs=3)
        np.testing.assert_allclose(scene.full_box, mask_box(alone.mask) - 500, atol=1)
        occluded += (buffer.mask & ~scene.mask).any()

        handle = model.handle_faces[buffer.face] & scene.mask
        assert scene.handle_fraction == pytest.approx(handle.sum() / scene.mask.sum(), abs=0.005)

        center = scene.rotation @ model.center + scene.translation
        assert settings.distance[0] <= center[2] <= settings.distance[1]
        pixel = (scene.K @ center)[:2] / center[2]
        assert (pixel > 0).all() and (pixel < [width, height]).all()
    assert 4 <= occluded <= 22  # 30 % of 40
    assert min(scene.handle_fraction for scene in scenes) < 0.01
    assert max(scene.handle_fraction for scene in scenes) > 0.1


def test_object_and_background_differ_at_the_silhouette(scenes):
    """The mask sits where the picture changes: not a pixel or two beside it."""
    contrasts = {shift: [] for shift in (0, 6)}
    for scene in scenes:
        grey = cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        mask = scene.mask.astype(np.uint8)
        edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        for shift, values in contrasts.items():
            values.append(slope[np.roll(edge, shift, axis=(0, 1))].mean())
    assert np.mean(contrasts[0]) > 1.5 * np.mean(contrasts[6])


def test_the_window_holds_the_crop(sampler, scenes):
    """The middle of the window is the object, and the window is as large as settings say."""
    settings = sampler.settings
    for scene in scenes:
        offset = settings.K[:2, 2] - scene.K[:2, 2]
        height, width = scene.mask.shape
        assert (offset >= 0).all() and offset[0] + width <= settings.width
        assert offset[1] + height <= settings.height
        center = scene.rotation @ sampler.model.center + scene.translation
        side = settings.window * sampler.model.diameter * settings.fx / center[2]
        pixel = (scene.K @ center)[:2] / center[2]
        for position, size, start, camera in zip(
            pixel, (width, height), offset, (settings.width, settings.height), strict=True
        ):
            assert position >= side / 2 - 1 or start == 0
            assert size - position >= side / 2 - 1 or start + size == camera


def test_full_frame_and_given_pose():
    settings = SceneSettings(sprites=10, full_frame=True, occlusion_probability=0.0)
    sampler = SceneSampler(load_object_model("mug"), settings)
    rotation, translation = np.eye(3), np.array([0.05, 0.0, 0.6])
    scene = sampler.render(rotation, translation, np.random.default_rng(0))
    assert scene.image.shape == (480, 640, 3)
    np.testing.assert_array_equal(scene.K, settings.K)
    np.testing.assert_array_equal(scene.translation, translation)
    assert scene.visible_fraction == 1
    far_left = np.array([-5.0, 0, 0.6])
    assert sampler.render(rotation, far_left, np.random.default_rng(0)) is None
    behind = np.array([0, 0, -0.6])
    assert sampler.render(rotation, behind, np.random.default_rng(0)) is None


def test_table_scenes_look_down_on_upright_objects():
    model = load_object_model("mug")
    settings = SceneSettings(sprites=10, rotations="table", table_share=1.0)
    sampler = SceneSampler(model, settings)
    for seed in range(10):
        scene = sampler.sample(np.random.default_rng(seed))
        up = scene.rotation[:, 2]
        assert up[2] <= 1e-9  # the top faces the camera
        assert np.linalg.det(scene.rotation) == pytest.approx(1)


def test_unknown_object_is_named():
    with pytest.raises(ValueError, match="lmo/bananas.*lmo/duck"):
        load_object_model("lmo/bananas")


def test_missing_data_set_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="training.download lmo"):
        load_object_model("lmo/duck", tmp_path)
    assert scene_settings("lmo/duck").fx == pytest.approx(572.4114)


def test_effects_keep_geometry():
    """A step edge stays where it is, whatever the camera does to it."""
    image = np.full((60, 80, 3), 60, np.uint8)
    image[:, 40:] = 190
    effects = CameraEffects(noise=2.0)
    for seed in range(30):
        changed = effects.apply(image, np.random.default_rng(seed))
        assert changed.shape == image.shape and changed.dtype == np.uint8
        columns = changed[10:-10].astype(float).mean((0, 2))
        middle = (columns[:20].mean() + columns[-20:].mean()) / 2
        crossing = np.flatnonzero(columns > middle)[0]
        assert 38 <= crossing <= 42


# --- detector --------------------------------------------------------------------------------


def test_noisy_boxes_are_unbiased_and_never_empty():
    rng = np.random.default_rng(0)
    box = np.array([10.0, 20, 110, 70])
    boxes = np.stack([noisy_box(box, rng) for _ in range(4000)])
    error = (boxes - box) / [100, 50, 100, 50]
    assert np.abs(error.mean(0)).max() < 0.004
    noise = BoxNoise()
    variance = (1 - noise.outlier_share) * noise.edge**2 + noise.outlier_share * noise.outlier**2
    np.testing.assert_allclose(error.std(0), np.sqrt(variance), rtol=0.1)
    wild = BoxNoise(edge=2.0)
    boxes = np.stack([noisy_box(box, rng, wild) for _ in range(1000)])
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_measured_errors_come_back():
    """Boxes that are off as given, whether one by one or in a batch."""
    errors = np.array([[0.1, -0.05, 0.2, -0.3], [0.0, 0.02, -0.1, 0.1]], np.float32)
    noise, rng = MeasuredNoise(errors), np.random.default_rng(0)
    true = np.array([10.0, 20, 110, 70])
    boxes = [noisy_box(true, rng, noise) for _ in range(64)]
    chance = Chance(torch.from_numpy(rng.random((2, 512), np.float32)))
    boxes += list(noisy_boxes(torch.tensor(true).expand(2, 4), 64, chance, noise).flatten(0, 1))
    counts = [0, 0]
    for box in boxes:
        found = box_errors(np.asarray(box), true)
        nearest = int(np.abs(errors - found).sum(1).argmin())
        np.testing.assert_allclose(found, errors[nearest], atol=1e-6)
        counts[nearest] += 1
    assert min(counts) > 60


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [0, 0, np.nan, 5], [5, 5, 1, 9]])
def test_a_box_without_area_is_refused(box):
    with pytest.raises(ValueError, match="empty or not finite"):
        noisy_box(np.array(box, float), np.random.default_rng(0))


def test_apparent_size_of_a_ball_is_known():
    ball = trimesh.creation.icosphere(5, 0.05)
    mean, std = apparent_size_ratio(ball.vertices, 0.1, n_views=50)
    assert mean == pytest.approx(np.sqrt(2) / np.sqrt(1 - 1 / 12**2), rel=2e-3)
    assert std < 2e-3


def test_boxes_give_back_the_translation(mug):
    """The size ratio is right on average: the estimate from true boxes has no bias in depth."""
    center, radius = bounding_sphere(mug.mesh)
    mean, std = apparent_size_ratio(mug.mesh.vertices - center, 2 * radius)
    assert 0.8 < mean < 1.3 and 0.02 < std < 0.2
    renderer, boxes, centers = Renderer(mug.mesh), [], []
    for rotation, translation in random_poses(300, distance=6 * 2 * radius, seed=5):
        translation = translation - rotation @ center
        boxes.append(renderer.bounds(rotation, translation, K))
        centers.append(rotation @ center + translation)
    estimate = translation_from_boxes(
        torch.tensor(np.array(boxes)), torch.tensor(K), 2 * radius, mean
    ).numpy()
    truth = np.array(centers)
    assert abs(np.mean(estimate[:, 2] / truth[:, 2]) - 1) < 0.02
    assert np.abs(estimate[:, :2] - truth[:, :2]).max() < radius


# --- real-looking scenes ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded():
    """The mug before crowded backdrops, in uneven light, nothing larger than 100 px."""
    settings = SceneSettings(
        sprites=40, backdrops=8, backdrop_share=1.0, uneven_light=1.0, largest=100.0
    )
    return SceneSampler(load_object_model("mug"), settings)


def test_crowded_backdrops_are_detailed_and_differ(crowded):
    rng = np.random.default_rng(0)
    pictures = [crowded.backdrops.draw(rng, 90, 120) for _ in range(20)]
    assert {picture.shape for picture in pictures} == {(90, 120, 3)}
    # Each has edges, which many a plain background lacks.
    edges = lambda picture: cv2.Laplacian(picture, cv2.CV_32F).std()  # noqa: E731
    plain = [background(rng, 90, 120) for _ in range(20)]
    assert min(edges(p) for p in pictures) > 2 * min(edges(p) for p in plain)
    assert len({picture.tobytes() for picture in pictures}) == 20


def test_uneven_light_is_a_factor_around_one():
    rng = np.random.default_rng(0)
    fields = [uneven_light(rng, 60, 80) for _ in range(50)]
    assert {field.shape for field in fields} == {(60, 80)} and fields[0].dtype == np.float32
    assert 0.7 < np.mean(fields) < 1.1 and np.min(fields) > 0.05
    assert np.mean([np.ptp(field) for field in fields]) > 0.3


def test_near_objects_are_made_smaller_but_right(crowded):
    """The window's intrinsics say where the object is, at any scale."""
    model = crowded.model
    sizes = []
    for seed in range(12):
        scene = crowded.sample(np.random.default_rng(seed))
        center = scene.rotation @ model.center + scene.translation
        sizes.append(model.diameter * scene.K[0, 0] / center[2])
        renderer = Renderer(model.mesh)
        height, width = scene.image.shape[:2]
        alone = renderer.render(scene.rotation, scene.translation, scene.K, width, height)
        assert not (scene.mask & ~alone.mask).any()
        assert np.count_nonzero(scene.mask) >= 0.59 * np.count_nonzero(alone.mask)
        np.testing.assert_allclose(scene.depth[scene.mask], alone.depth[scene.mask], atol=1e-4)
    assert max(sizes) < 100.5 and np.ptp(sizes) > 5
