"""Projection, boxes and crops against OpenCV and against rendered pictures."""

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import camera
from spyropose_ros.core.camera import apparent_size_ratio
from spyropose_ros.scenes.mug import make_mug
from spyropose_ros.scenes.renderer import Renderer, bounding_sphere
from spyropose_ros.scenes.sampler import mask_box

K = torch.tensor([[600.0, 0, 319.5], [0, 610.0, 239.5], [0, 0, 1]])
WIDTH, HEIGHT = 640, 480
DIAMETER = 0.12
RESOLUTION = 96


@pytest.fixture(scope="module")
def mug():
    mesh = make_mug().mesh
    center, radius = bounding_sphere(mesh)
    return mesh, center, 2 * radius


def crop_of(estimate, roll=0.0, K=K, diameter=DIAMETER):
    estimate = torch.as_tensor(estimate).float().view(1, 3)
    roll = torch.tensor([roll])
    return camera.crop_intrinsics(estimate, diameter, K, RESOLUTION, roll=roll)


def smooth_image(seed=0):
    noise = np.random.default_rng(seed).uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 12)
    low, high = noise.min(), noise.max()
    return ((noise - low) / (high - low) * 255).astype(np.uint8)


def test_projection_agrees_with_opencv():
    points = np.random.default_rng(0).uniform([-0.3, -0.3, 0.3], [0.3, 0.3, 2], (50, 3))
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K.double().numpy(), None)[0]
    pixels, depth = camera.project(K.double(), torch.from_numpy(points))
    np.testing.assert_allclose(pixels, expected[:, 0], atol=1e-9)
    np.testing.assert_array_equal(depth, points[:, 2])


def test_projection_is_batched_and_takes_any_3x3():
    points = torch.rand(2, 5, 3) + torch.tensor([0, 0, 1.0])
    matrices = K @ torch.from_numpy(Rotation.random(2, random_state=0).as_matrix()).float()
    pixels, _ = camera.project(matrices, points)
    for b in range(2):
        homogeneous = points[b] @ matrices[b].T
        torch.testing.assert_close(pixels[b], homogeneous[:, :2] / homogeneous[:, 2:])


def test_grid_sample_coordinates():
    """Pixel centres at integers: sampling at integer pixels gives back the pixels."""
    values = torch.arange(12.0).view(1, 1, 3, 4)
    v, u = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")
    grid = camera.to_grid_sample(torch.stack((u, v), -1), 4, 3).unsqueeze(0)
    sampled = torch.nn.functional.grid_sample(values, grid, align_corners=False)
    torch.testing.assert_close(sampled, values)
    edges = camera.to_grid_sample(torch.tensor([[-0.5, -0.5], [3.5, 2.5]]), 4, 3)
    torch.testing.assert_close(edges, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))


@pytest.mark.parametrize("roll", [0.0, 0.7, -2.5])
def test_crop_geometry(roll):
    """Centred on the estimate, 1.5 diameters wide at its depth, turned by the roll."""
    estimate = np.array([0.08, -0.05, 0.6])
    K_crop = crop_of(estimate, roll)[0].double()
    scale = RESOLUTION / (1.5 * DIAMETER)
    cos, sin = np.cos(roll), np.sin(roll)
    for dx, dy in ((0, 0), (DIAMETER / 2, 0), (0, DIAMETER / 2), (-0.01, 0.02)):
        point = torch.tensor(estimate + [dx, dy * 600 / 610, 0]).view(1, 3)
        pixel = camera.project(K_crop, point)[0][0]
        expected = [
            47.5 + scale * (cos * dx - sin * dy),
            47.5 + scale * (sin * dx + cos * dy),
        ]
        np.testing.assert_allclose(pixel, expected, atol=1e-3)


@pytest.mark.parametrize("roll", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("z", [0.35, 0.5, 1.0])
def test_crops_agree_with_opencv(roll, z):
    image = smooth_image()
    K_crop = crop_of([0.02, -0.01, z], roll)
    crop = camera.crop_image(torch.from_numpy(image).permute(2, 0, 1), K, K_crop, RESOLUTION)
    warp = (K_crop[0].double() @ K.double().inverse()).numpy()
    size = (RESOLUTION, RESOLUTION)
    expected = cv2.warpPerspective(image.astype(np.float32), warp, size, flags=cv2.INTER_LINEAR)
    assert crop.shape == (1, 3, RESOLUTION, RESOLUTION) and crop.dtype == torch.float32
    difference = crop[0].permute(1, 2, 0).numpy() * 255 - expected
    assert np.ptp(expected) > 50
    assert np.abs(difference[2:-2, 2:-2]).max() < 1.5  # grey levels of 255
    assert abs(difference.mean()) < 0.05


def plain_crops(image, K, K_crop):
    """Crops as they are defined, in float64: every sample projected and read on its own."""
    pixel = (torch.arange(2 * RESOLUTION).double() + 0.5) / 2 - 0.5
    v, u = torch.meshgrid(pixel, pixel, indexing="ij")
    back = K.double() @ torch.linalg.inv(K_crop.double())
    source = torch.stack((u, v, torch.ones_like(u)), -1) @ back.mT.unsqueeze(1)
    source = source[..., :2] / source[..., 2:]
    corner = source.floor()
    height, width = image.shape[1:]
    samples = torch.zeros(len(K_crop), 3, 2 * RESOLUTION, 2 * RESOLUTION, dtype=torch.float64)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = (corner + torch.tensor([dx, dy])).unbind(-1)
        weight = (1 - (source[..., 0] - x).abs()) * (1 - (source[..., 1] - y).abs())
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        values = image[:, y.clamp(0, height - 1).long(), x.clamp(0, width - 1).long()]
        samples += (values * (weight * inside)).transpose(0, 1) / 255
    return samples.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))


@pytest.mark.parametrize("roll", [0.0, 2.2])
@pytest.mark.parametrize("padded", [False, True])
def test_crops_agree_with_the_plain_twin(roll, padded):
    """Near and far, inside, across an edge, around the image and beyond it, in one call."""
    estimates = [[0, 0, 0.5], [0.1, 0.05, 1.5], [-0.2, 0.1, 0.4], [0, 0, 0.05], [0.9, 0, 0.4]]
    image = torch.from_numpy(smooth_image(2)).permute(2, 0, 1)  # channels last, as images come
    if padded:  # no step at the image's edge, where a rounding error of a pixel's place shows most
        fade = torch.hann_window(HEIGHT)[:, None] * torch.hann_window(WIDTH)
        image = (image * fade).byte()
    roll = torch.full((len(estimates),), roll)
    K_crop = camera.crop_intrinsics(torch.tensor(estimates), DIAMETER, K, RESOLUTION, roll=roll)
    crops = camera.crop_image(image, K, K_crop, RESOLUTION)
    bound = 1e-6 if padded else 5e-5
    assert float((crops - plain_crops(image, K, K_crop)).abs().max()) < bound
    assert float(crops[0].max()) > 0.3 and float(crops[4].max()) == 0


def test_pixels_beyond_the_image_are_black():
    image = torch.full((3, HEIGHT, WIDTH), 200, dtype=torch.uint8)
    corner = torch.linalg.solve(K, torch.tensor([-0.5, 239.5, 1.0])) * 0.5
    crop = camera.crop_image(image, K, crop_of(corner), RESOLUTION)[0]
    half = RESOLUTION // 2
    assert float(crop[:, :, : half - 2].max()) == 0
    np.testing.assert_allclose(crop[:, :, half + 2 :], 200 / 255, atol=1e-6)


def test_crops_of_a_batch_are_the_single_crops():
    image = torch.from_numpy(smooth_image(1)).permute(2, 0, 1)
    estimates = torch.tensor([[0.0, 0.0, 0.5], [0.1, 0.05, 0.8], [-0.2, 0.1, 0.4]])
    K_crop = camera.crop_intrinsics(estimates, DIAMETER, K, RESOLUTION)
    crops = camera.crop_image(image, K, K_crop, RESOLUTION)
    for b in range(3):
        single = camera.crop_intrinsics(estimates[b : b + 1], DIAMETER, K, RESOLUTION)
        torch.testing.assert_close(single[0], K_crop[b])
        one = camera.crop_image(image, K, single, RESOLUTION)
        torch.testing.assert_close(one[0], crops[b], atol=1e-5, rtol=0)


@pytest.mark.parametrize("roll", [0.0, 0.9, -2.0])
def test_rendered_vertices_project_into_crops(mug, roll):
    """The silhouette in a rolled crop of the picture is where the projected vertices say it is."""
    mesh, center, diameter = mug
    renderer = Renderer(mesh)
    rng = np.random.default_rng(0)
    intrinsics = K.double().numpy()
    for rotation in Rotation.random(4, random_state=rng).as_matrix():
        middle = np.append(rng.uniform(-0.1, 0.1, 2), 0.4)
        translation = middle - rotation @ center
        mask = renderer.render(rotation, translation, intrinsics, WIDTH, HEIGHT).mask
        image = torch.from_numpy(mask.astype(np.uint8) * 255).expand(3, -1, -1)
        K_crop = crop_of(middle, roll, diameter=diameter)
        crop = camera.crop_image(image, K, K_crop, RESOLUTION)[0, 0].numpy() > 0.5

        vertices = torch.from_numpy(mesh.vertices @ rotation.T + translation)
        pixels = camera.project(K_crop[0].double(), vertices)[0].numpy()
        bounds = np.concatenate([pixels.min(0), pixels.max(0)])
        np.testing.assert_allclose(mask_box(crop), bounds, atol=1.2)
        fine = np.zeros((8 * RESOLUTION, 8 * RESOLUTION), np.float32)  # drawing fattens outlines
        for triangle in 8 * pixels[mesh.faces] + 3.5:
            cv2.fillConvexPoly(fine, np.round(triangle).astype(np.int32), 1)
        drawn = cv2.resize(fine, crop.shape, interpolation=cv2.INTER_AREA) > 0.5
        assert (drawn & crop).sum() / (drawn | crop).sum() > 0.97


def test_translation_from_rendered_masks(mug):
    """Unbiased in depth, scattered as the stored ratio says, and on the ray to the object."""
    mesh, center, diameter = mug
    ratio, ratio_std = apparent_size_ratio(mesh.vertices - center, diameter)
    renderer = Renderer(mesh)
    rng = np.random.default_rng(2)
    truths, boxes = [], []
    for rotation in Rotation.random(120, random_state=rng).as_matrix():
        middle = rng.uniform([-0.1, -0.08, 0.5], [0.1, 0.08, 0.9])
        translation = middle - rotation @ center
        mask = renderer.render(rotation, translation, K.double().numpy(), WIDTH, HEIGHT).mask
        truths.append(middle)
        boxes.append(mask_box(mask))
    truth, boxes = np.array(truths), torch.tensor(np.array(boxes))
    estimate = camera.translation_from_boxes(boxes, K.double(), diameter, ratio).numpy()
    depth = estimate[:, 2] / truth[:, 2]
    assert abs(depth.mean() - 1) < 0.03
    assert depth.std() == pytest.approx(ratio_std / ratio, rel=0.35)
    assert np.abs(depth - 1).max() < 5 * ratio_std / ratio
    # Sideways: the middle of the box against the projected centre, at the true depth.
    ray_error = estimate[:, :2] / depth[:, None] - truth[:, :2]
    assert np.linalg.norm(ray_error, axis=1).max() < 0.35 * diameter
    assert np.abs(ray_error.mean(0)).max() < 0.05 * diameter


@pytest.mark.parametrize("angle", [0, 20, 40, 55])
@pytest.mark.parametrize("azimuth", [0, 30, 45])
def test_the_depth_of_a_ball_is_right_far_from_the_optical_axis(angle, azimuth):
    """From the exact box of its outline: where planes through the camera touch the ball."""
    radius, direction = 0.05, Rotation.from_euler("xz", [angle, azimuth], degrees=True)
    x, y, z = direction.apply([0.0, 0.0, 1.0])

    def touching(a):  # (a - s z)^2 = radius^2 (1 + s^2)
        return np.sort(np.roots([z**2 - radius**2, -2 * a * z, a**2 - radius**2]))

    corners = np.stack((touching(x), touching(y), np.ones(2)), 1)  # [2, 3], normalised
    box = torch.from_numpy((corners @ K.double().numpy().T)[:, :2].reshape(1, 4))
    found = camera.translation_from_boxes(box, K.double(), 2 * radius, 2**0.5)[0]
    assert float(found[2]) / z == pytest.approx(1, abs=0.01)


def test_translation_from_the_box_of_a_known_ball():
    """A box of 1.2 projected diameters along its diagonal, with unequal focal lengths."""
    center, depth = torch.tensor([0.06, -0.09, 0.6]), 0.6
    stretch = np.sqrt(1 + (0.1**2 + 0.15**2) / 2)  # along the ray (0.1, -0.15, 1)
    size = 1.2 * DIAMETER * stretch / depth / np.sqrt(2) * torch.tensor([600.0, 610.0])
    pixel = camera.project(K, center.view(1, 3))[0][0]
    box = torch.cat((pixel - size / 2, pixel + size / 2)).view(1, 4)
    estimate = camera.translation_from_boxes(box, K, DIAMETER, 1.2)
    torch.testing.assert_close(estimate[0], center, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "box", [[0, 0, 0, 5], [5, 0, 1, 9], [0, 3, 4, 3], [0, 0, np.nan, 5], [0, 0, np.inf, 5]]
)
def test_a_box_without_area_is_refused(box):
    boxes = torch.tensor([[0.0, 0, 10, 10], box])
    with pytest.raises(ValueError, match="finite x0 < x1.*drop empty detections"):
        camera.translation_from_boxes(boxes, K, 0.1, 1.0)


def test_boxes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"boxes must be \[N, 4\].*\(4,\)"):
        camera.translation_from_boxes(torch.zeros(4), K, 0.1, 1.0)


def test_boxes_from_translations_are_the_inverse_of_translations_from_boxes():
    translation = torch.tensor([[0.1, -0.05, 0.5], [-0.3, 0.2, 0.9], [0.0, 0.0, 0.3]])
    boxes = camera.boxes_from_translation(translation, K, DIAMETER, 0.8)
    back = camera.translation_from_boxes(boxes, K, DIAMETER, 0.8)
    torch.testing.assert_close(back, translation, atol=1e-5, rtol=1e-4)
    sides = boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.full((3,), 610 / 600))
