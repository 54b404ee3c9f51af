"""The estimator: the same as its parts put together, one image or many, one view or several."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from scipy.spatial.transform import Rotation

from gpu_tools import needs_gpu
from spyropose_ros.core import camera, inputs, se3_grid, so3
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.estimator import Estimator, SearchSettings, resolve_device
from spyropose_ros.core.kernels import torch_heads
from spyropose_ros.core.kernels.captured_search import CapturedSearch
from spyropose_ros.core.network.keypoint_model import make_model
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox

K = np.array([[300.0, 0, 79.5], [0, 310.0, 59.5], [0, 0, 1]])
BOXES = np.array([[20.0, 30, 70, 90], [60, 10, 150, 100], [40, 40, 80, 95]])
BEAM = SearchSettings(beam=20, mass_tolerance=0.0)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.fixture
def estimate(tiny_bundle, image):
    return Estimator(tiny_bundle, "cpu", BEAM).estimate(image, K, BOXES)


def assert_same(a, b, n=300):
    """Equal densities at samples of either and everywhere."""
    generator = torch.Generator().manual_seed(0)
    for distribution in (a, b):
        pose = distribution.sample(n, generator)
        got, expected = a.log_density(*pose), b.log_density(*pose)
        # A pose on the border of a cell may fall to either side.
        close = (got - expected).abs() < 5e-3
        assert float(close.double().mean()) > 0.99
    assert a.entropy() == pytest.approx(b.entropy(), abs=1e-3)


def test_what_hides_a_part_does_not_put_the_truth_outside(tiny_bundle):
    """The box of the lower third of an object makes it seem three times as far away."""
    estimator, seen = Estimator(tiny_bundle, "cpu"), torch.tensor([[0.1, 0.0, 1.0]])
    positions = seen * torch.tensor([0.35, 1.0, 1.25])[:, None]
    inside = estimator.box(seen).coordinates(positions[None])[0]
    assert bool(((inside > 0) & (inside < 1)).all())


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: inputs.check_intrinsics("K"), "K must be a 3x3 matrix, got 'K'"),
        (lambda: inputs.check_intrinsics([[1, 0], [0]]), "K must be a 3x3 matrix, got"),
        (lambda: inputs.check_boxes([[1, 2, 3, 4], [1, 2]], 64, 48), "boxes must be .N, 4. .*got"),
        (lambda: inputs.check_boxes([{"x": 1}], 64, 48), "boxes must be .N, 4. .*got"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(check, said):
    with pytest.raises(InputError, match=said):
        check()


def test_it_is_its_parts_put_together(tiny_bundle, image, estimate):
    """Box -> estimate -> crop -> features -> search with tempered logits -> object frame."""
    info, model = tiny_bundle.object, tiny_bundle.model
    intrinsics = torch.tensor(K).float()
    translation = camera.translation_from_boxes(
        torch.tensor(BOXES).float(), intrinsics, info.diameter, info.size_ratio
    )
    K_crop = camera.crop_intrinsics(translation, info.diameter, intrinsics, 32)
    crops = camera.crop_image(torch.from_numpy(image).permute(2, 0, 1), intrinsics, K_crop, 32)
    features = model.features((crops * 255).round() / 255)

    def score(level, R, t):
        return model.logits(features, K_crop, level, R, t) / [0.01, 0.02, 0.03][level]

    pyramid = search(score, TranslationBox.from_detection(translation, info.diameter), 3, beam=20)
    assert len(estimate) == 3
    for b, found in enumerate(estimate):
        assert_same(found, pyramid.distribution(b, torch.tensor(info.center), info.diameter))
        assert found.diameter == info.diameter and found.depth == 3
        assert float(found.probabilities.double().sum()) == pytest.approx(1, abs=1e-5)
        # Far from uniform, or the comparison would say little.
        assert found.entropy() < -float(se3_grid.uniform_log_density(found.box)) - 0.3


def test_several_crops_are_averaged_at_every_level(tiny_bundle, image):
    """Against one crop after the other: nearer, farther and turned."""
    info, model = tiny_bundle.object, tiny_bundle.model
    intrinsics, pixels = torch.tensor(K).float(), torch.from_numpy(image).permute(2, 0, 1)
    translation = camera.translation_from_boxes(
        torch.tensor(BOXES).float(), intrinsics, info.diameter, info.size_ratio
    )
    views = []
    for size, turn in ((1, 0), (0.9, 0), (1.1, 0), (1, -7), (1, 7)):
        roll = torch.full((len(BOXES),), math.radians(turn))
        K_crop = camera.crop_intrinsics(
            translation, info.diameter, intrinsics, 32, 1.5 * size, roll
        )
        crops = camera.crop_image(pixels, intrinsics, K_crop, 32)
        views.append((model.features((crops * 255).round() / 255), K_crop))

    def score(level, R, t):
        logits = [model.logits(features, K_crop, level, R, t) for features, K_crop in views]
        return sum(logits) / 5 / [0.01, 0.02, 0.03][level]

    expected = search(score, TranslationBox.from_detection(translation, info.diameter), 3, beam=20)
    settings = SearchSettings(beam=20, mass_tolerance=0.0, crops=5)
    found = Estimator(tiny_bundle, "cpu", settings).estimate(image, K, BOXES)
    alone = Estimator(tiny_bundle, "cpu", BEAM).estimate(image, K, BOXES)
    for b, distribution in enumerate(found):
        center = torch.tensor(info.center)
        assert_same(distribution, expected.distribution(b, center, info.diameter))
        assert distribution.entropy() != pytest.approx(alone[b].entropy(), abs=1e-3)


@pytest.mark.parametrize("crops", [0, 6])
def test_as_many_crops_as_there_are(crops):
    with pytest.raises(ValueError, match=f"crops must be 1 to 5, got {crops}"):
        SearchSettings(crops=crops)


def test_a_batch_is_its_elements(tiny_bundle, image, estimate):
    single = Estimator(tiny_bundle, "cpu", BEAM)
    for b in range(3):
        (alone,) = single.estimate(image, K, BOXES[b : b + 1])
        assert_same(alone, estimate[b])


def test_passes_of_bounded_memory_change_nothing(tiny_bundle, image, estimate, monkeypatch):
    monkeypatch.setattr(torch_heads, "_POSES_PER_PASS", 100)
    monkeypatch.setattr(torch_heads, "_POSES_PER_TABLE", 1000)
    for a, b in zip(
        Estimator(tiny_bundle, "cpu", BEAM).estimate(image, K, BOXES), estimate, strict=True
    ):
        assert_same(a, b)


def captured(tiny_bundle, settings):
    """An estimator as on a GPU; here the same batches run without graphs."""
    run = Estimator(tiny_bundle, "cpu", settings)
    assert run._captured is None
    run._captured = CapturedSearch(run._scorer, run._presence, run.depth, settings.beam)
    return run


@pytest.mark.parametrize("crops", [1, 2])
def test_a_captured_search_is_the_same(tiny_bundle, image, crops):
    """Three boxes are filled up to a batch of four."""
    settings = replace(BEAM, crops=crops)
    plain = Estimator(tiny_bundle, "cpu", settings).estimate(image, K, BOXES)
    found = captured(tiny_bundle, settings).estimate(image, K, BOXES)
    for a, b in zip(found, plain, strict=True):
        assert_same(a, b)


def test_priors_that_know_nothing_change_nothing(tiny_bundle, image, estimate, monkeypatch):
    """The node gives such for new objects; then a search may be captured, too."""
    run = captured(tiny_bundle, BEAM)
    calls = []
    plain = run._captured
    monkeypatch.setattr(run, "_captured", lambda *given: calls.append(1) or plain(*given))
    for a, b in zip(run.estimate(image, K, BOXES, priors=[None] * 3), estimate, strict=True):
        assert_same(a, b)
    assert calls == [1]
    with pytest.raises(ValueError, match="need one prior, or None, for each of 3; got 2"):
        run.estimate(image, K, BOXES, priors=[None] * 2)


@needs_gpu
@pytest.mark.parametrize(
    ("change", "whole"),
    [({}, True), ({"mass_tolerance": 0.1}, False), ({"exhaustive": True, "depth": 1}, False)],
    ids=str,
)
def test_a_fixed_beam_is_captured_on_a_gpu(tiny_bundle, change, whole):
    run = Estimator(tiny_bundle, "cuda", replace(BEAM, **change))
    assert (run._captured is not None) == whole


def test_a_distribution_does_not_keep_those_beside_it(tiny_bundle, image):
    pyramid = Estimator(tiny_bundle, "cpu", BEAM).search(image, K, BOXES)
    one = pyramid.distribution(1)
    held = sum(x.untyped_storage().nbytes() for x in (one._log_p, one._position_index))
    assert held == one._log_p.nbytes + one._position_index.nbytes


def test_it_repeats(tiny_bundle, image, estimate):
    again = Estimator(tiny_bundle, "cpu", BEAM).estimate(image, K, BOXES)
    for a, b in zip(again, estimate, strict=True):
        assert torch.equal(a.log_densities, b.log_densities)
        assert torch.equal(a.translations, b.translations)


def test_from_a_folder(tiny_bundle, image, estimate, tmp_path):
    tiny_bundle.save_pretrained(tmp_path, half=False)
    loaded = Estimator.from_pretrained(tmp_path, "cpu", BEAM)
    loaded.warm_up(2)
    for a, b in zip(loaded.estimate(image, K, BOXES), estimate, strict=True):
        assert torch.equal(a.log_densities, b.log_densities)


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros(0)])
def test_no_boxes(tiny_bundle, image, boxes):
    assert Estimator(tiny_bundle, "cpu").estimate(image, K, boxes) == []


def test_better_translations_replace_the_boxes(tiny_bundle, image):
    better = np.array([[0.01, 0.02, 0.5], [0.0, 0.0, 0.4], [-0.02, 0.0, 0.9]])
    found = Estimator(tiny_bundle, "cpu", BEAM).estimate(image, K, BOXES, better)
    for distribution, center in zip(found, better, strict=True):
        np.testing.assert_allclose(distribution.box.center[0], 0.8 * center, atol=1e-7)
        assert float(distribution.box.volume) == pytest.approx(0.12**2 * center[2], rel=1e-5)


def test_the_pyramid_has_every_level(tiny_bundle, image, estimate):
    pyramid = Estimator(tiny_bundle, "cpu", BEAM).search(image, K, BOXES)
    assert [level.cells.level for level in pyramid.levels] == [0, 1, 2]
    assert pyramid.evaluations.tolist() == [576 + 2 * 20 * 64] * 3


def test_depth_can_be_less_than_the_models(tiny_bundle, image):
    settings = SearchSettings(beam=20, depth=2)
    (found,) = Estimator(tiny_bundle, "cpu", settings).estimate(image, K, BOXES[:1])
    assert found.depth == 2 and int(found.levels.max()) == 1
    with pytest.raises(ValueError, match="depth 4 is not available: the model has 3 levels"):
        Estimator(tiny_bundle, "cpu", SearchSettings(depth=4))


def test_a_model_fresh_from_training_is_put_in_evaluation_mode(tiny_bundle, image, estimate):
    tiny_bundle.model.train()
    again = Estimator(tiny_bundle, "cpu", BEAM).estimate(image, K, BOXES)
    assert torch.equal(again[0].log_densities, estimate[0].log_densities)


# --- several views ---


def in_view(tiny_bundle, image, world_from_camera, center):
    """Scorer of one view for poses in the world, written out."""
    info = tiny_bundle.object
    camera_from = torch.linalg.inv(torch.tensor(world_from_camera)).float()
    R, t = camera_from[:3, :3], camera_from[:3, 3]
    intrinsics = torch.tensor(K).float()
    K_crop = camera.crop_intrinsics((R @ center + t)[None], info.diameter, intrinsics, 32)
    crops = camera.crop_image(torch.from_numpy(image).permute(2, 0, 1), intrinsics, K_crop, 32)
    features = tiny_bundle.model.features((crops * 255).round() / 255)

    def score(level, rotations, translations):
        poses = R @ rotations, translations @ R.T + t
        logits = tiny_bundle.model.logits(features, K_crop, level, *poses)
        return logits / tiny_bundle.temperatures[level]

    return score


@pytest.fixture
def views(image):
    """Two cameras that look at the same place from two sides: images and camera poses."""
    other = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    first = np.eye(4)
    first[:3, 3] = [0.1, 0.0, -0.2]
    second = np.eye(4)
    turn = Rotation.from_euler("y", -60, degrees=True).as_matrix()
    second[:3, :3] = turn
    second[:3, 3] = [0.1, 0.0, 0.4] - turn @ [0.02, 0.0, 0.5]
    return [image, other], [first, second], np.array([0.1, 0.0, 0.4])


@pytest.mark.parametrize("fusion", ["sum", "root", "mean"])
@pytest.mark.parametrize("n", [1, 2])
def test_views_are_fused_at_every_level(tiny_bundle, views, fusion, n):
    images, cameras, center = views
    world = torch.tensor(center).float()
    box = TranslationBox.cubic(world[None], 0.12)
    found = Estimator(tiny_bundle, "cpu", BEAM).estimate_multiview(
        images[:n], [K] * n, np.stack(cameras[:n]), center, fusion, box=box if n == 1 else None
    )
    scorers = [
        in_view(tiny_bundle, image, pose, world)
        for image, pose in zip(images[:n], cameras, strict=False)
    ]

    def fused(*arguments):
        total = sum(scorer(*arguments) for scorer in scorers)
        return total / {"sum": 1, "root": n**0.5, "mean": n}[fusion]

    pyramid = search(fused, box, 3, beam=20)
    assert_same(found, pyramid.distribution(0, torch.tensor(tiny_bundle.object.center), 0.12))
    torch.testing.assert_close(found.box.center[0], world)
    assert float(found.box.volume) == pytest.approx(0.12**3, rel=1e-5)


def test_two_copies_of_a_view(tiny_bundle, views):
    """Their mean is the one view; their sum is the one view at half the temperature."""
    images, cameras, center = views
    run = Estimator(tiny_bundle, "cpu", BEAM).estimate_multiview
    one = images[:1], [K], np.stack(cameras[:1]), center
    two = [images[0]] * 2, [K] * 2, np.stack([cameras[0]] * 2), center
    box = TranslationBox.cubic(torch.tensor(center[None]).float(), 0.12)
    assert_same(run(*two, "mean"), run(*one, box=box))
    summed = run(*two, "sum")
    tiny_bundle.temperatures = [t / 2 for t in tiny_bundle.temperatures]
    halved = Estimator(tiny_bundle, "cpu", BEAM)
    assert_same(summed, halved.estimate_multiview(*one, box=box))
    assert_same(run(*one, box=box), run(*two, "mean"))  # an estimator keeps those it was made with


def test_one_view_is_searched_as_deep_as_a_single_image(tiny_bundle, image, views):
    """The same box and, in the camera's own frame, the same answer."""
    _, cameras, _ = views
    center = np.array([0.02, -0.01, 0.5])
    run = Estimator(tiny_bundle, "cpu", BEAM)
    (single,) = run.estimate(image, K, BOXES[:1], center[None])
    assert_same(run.estimate_multiview([image], [K], np.eye(4)[None], center), single)
    world = cameras[1][:3, :3] @ center + cameras[1][:3, 3]
    multi = run.estimate_multiview([image], [K], cameras[1][None], world)
    turn = torch.tensor(cameras[1][:3, :3]).float()
    torch.testing.assert_close(multi.box.basis[0], turn @ single.box.basis[0])
    expected = turn @ single.box.center[0] + torch.tensor(cameras[1][:3, 3]).float()
    torch.testing.assert_close(multi.box.center[0], expected)


def test_one_view_agrees_with_a_single_image(tiny_bundle, image, generator):
    """At the base level both score the same function; only the boxes' shapes differ."""
    tiny_bundle.temperatures = [1.0] * 3
    settings = SearchSettings(depth=1)
    center = np.array([0.02, -0.01, 0.5])
    run = Estimator(tiny_bundle, "cpu", settings)
    (single,) = run.estimate(image, K, BOXES[:1], center[None])
    multi = run.estimate_multiview([image], [K], np.eye(4)[None], center)
    score = in_view(tiny_bundle, image, np.eye(4), torch.tensor(center).float())
    offset = torch.tensor(tiny_bundle.object.center)
    for found in (single, multi):
        sphere = found.translations + found.rotations @ offset
        logits = score(0, found.rotations[None], sphere[None])[0]
        np.testing.assert_allclose(found.log_probabilities, logits.log_softmax(0), atol=1e-3)


# --- bad input ---


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((120, 160), np.uint8),
        np.zeros((120, 160, 4), np.uint8),
        np.zeros((120, 160, 3), np.float32),
        np.zeros((0, 160, 3), np.uint8),
    ],
)
def test_a_malformed_image_is_named(tiny_bundle, image):
    with pytest.raises(ValueError, match=r"image must be RGB uint8 \[H, W, 3\]"):
        Estimator(tiny_bundle, "cpu").estimate(image, K, BOXES)


@pytest.mark.parametrize(
    "K",
    [np.zeros((3, 3)), np.full((3, 3), np.nan), np.eye(4), np.diag([-1.0, 1, 1]), np.ones(9)],
)
def test_malformed_intrinsics_are_named(tiny_bundle, image, K):
    with pytest.raises(ValueError, match="K must be a finite 3x3 matrix with positive focal"):
        Estimator(tiny_bundle, "cpu").estimate(image, K, BOXES)


@pytest.mark.parametrize("boxes", [np.zeros(4), np.zeros((2, 8)), np.zeros((1, 2, 4))])
def test_boxes_of_another_shape_are_named(tiny_bundle, image, boxes):
    with pytest.raises(ValueError, match=r"boxes must be \[N, 4\]"):
        Estimator(tiny_bundle, "cpu").estimate(image, K, boxes)


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ([5.0, 5, 5, 9], "is empty, x0 < x1 and y0 < y1 must hold: drop it, or fix the detector"),
        ([9, 9, 5, 5], "is empty"),
        ([5, 5, math.nan, 9], "values that are not finite: drop it"),
        (
            [0.1, 0.2, 0.4, 0.5],
            "in fractions of the image: give pixels, .* multiply by 160 and 120",
        ),
        ([0, 0, 1, 1], "in fractions of the image"),
        ([-0.1, 0.7, 0.3, 1.1], "in fractions of the image"),
        ([5, 5, 5.01, 9], "too small or too large"),
        ([5, 5, 2e6, 9], "too small or too large"),
        ([-500.0, -500, -400, -400], "is outside the 160x120 image: .* not of a resized one"),
        ([140.0, 50, 200, 90], "is outside the 160x120 image"),
        ([20.0, 90, 60, 200], "is outside the 160x120 image"),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_unusable_boxes_are_named(tiny_bundle, image, box, text, known):
    """With other estimates of the translation as well, where boxes are hardly used."""
    estimates = np.tile([0, 0, 0.5], (2, 1)) if known else None
    with pytest.raises(InputError, match=rf"boxes\[1\]: .*box .*{text}"):
        Estimator(tiny_bundle, "cpu").estimate(image, K, [[0, 0, 10, 10], box], estimates)


def test_a_box_may_reach_over_the_border(tiny_bundle, image):
    (found,) = Estimator(tiny_bundle, "cpu", BEAM).estimate(image, K, [[-50.0, -60, 70, 80]])
    assert float(found.probabilities.double().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("estimate", [[0, 0, -1.0], [0, 0, 0], [math.nan, 0, 1], [0, 0, math.inf]])
def test_unusable_translations_are_named(tiny_bundle, image, estimate):
    with pytest.raises(ValueError, match="finite and in front of the camera"):
        Estimator(tiny_bundle, "cpu").estimate(image, K, BOXES[:1], np.array([estimate]))
    rotations = Estimator(changed(tiny_bundle, rotation_only=True), "cpu")
    with pytest.raises(ValueError, match="finite and in front of the camera"):
        rotations.estimate(image, K, BOXES[:1], np.array([estimate]))


def test_translations_and_boxes_must_match(tiny_bundle, image):
    with pytest.raises(ValueError, match=r"must be \[3, 3\], one for each box, got \(2, 3\)"):
        Estimator(tiny_bundle, "cpu").estimate(image, K, BOXES, np.ones((2, 3)))


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("photo.png", r"not a path: give PIL.Image.open\('photo.png'\).convert\('RGB'\)"),
        (Path("a/photo.png"), "not a path: give .*a/photo.png"),
        (None, "cv2.imread returns"),
        (PillowImage.new("L", (160, 120)), r"mode L, not RGB: give image.convert\('RGB'\)"),
        (PillowImage.new("RGBA", (160, 120)), "mode RGBA, not RGB: give"),
        (PillowImage.new("P", (160, 120)), "mode P, not RGB: give"),
        (PillowImage.new("I;16", (160, 120)), "mode I;16, not RGB: scale it to 8 bits first"),
        (torch.zeros(3, 120, 160, dtype=torch.uint8), r"got uint8 \(3, 120, 160\)"),
    ],
)
def test_other_kinds_of_images_are_refused_with_a_sentence(tiny_bundle, views, image, text):
    run = Estimator(tiny_bundle, "cpu")
    with pytest.raises(InputError, match=text):
        run.estimate(image, K, BOXES)
    with pytest.raises(InputError, match=text):
        run.estimate_multiview([image], [K], views[1][0][None], views[2])


def test_a_pil_image_is_its_pixels(tiny_bundle, image, estimate):
    found = Estimator(tiny_bundle, "cpu", BEAM).estimate(PillowImage.fromarray(image), K, BOXES)
    for a, b in zip(found, estimate, strict=True):
        assert torch.equal(a.log_densities, b.log_densities)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_read_only_and_sliced_arrays_give_no_warning(tiny_bundle, image, estimate, views, kind):
    wide = np.repeat(image, 2, 1)
    arguments = [wide[:, ::2], K.astype(kind), BOXES.astype(kind)]
    multiview = [np.stack(views[1]).astype(kind), views[2].astype(kind)]
    for array in (*arguments, *multiview):
        array.flags.writeable = False
    run = Estimator(tiny_bundle, "cpu", BEAM)
    for a, b in zip(run.estimate(*arguments), estimate, strict=True):
        assert torch.equal(a.log_densities, b.log_densities)
    centers = np.array([[0.0, 0, 0.5]] * 3, kind)
    centers.flags.writeable = False
    assert len(run.estimate(*arguments, centers)) == 3
    run.estimate_multiview([arguments[0]] * 2, [arguments[1]] * 2, *multiview)


def test_malformed_views_are_named(tiny_bundle, views):
    images, cameras, center = views
    run = Estimator(tiny_bundle, "cpu").estimate_multiview
    with pytest.raises(ValueError, match="at least one; got 0, 0, 0"):
        run([], [], np.zeros((0, 4, 4)), center)
    with pytest.raises(ValueError, match="got 2, 1, 2"):
        run(images, [K], np.stack(cameras), center)
    with pytest.raises(ValueError, match="'sum', 'root', 'mean' or a positive number, got 'max'"):
        run(images, [K] * 2, np.stack(cameras), center, "max")
    with pytest.raises(ValueError, match="behind one of the cameras"):
        run(images, [K] * 2, np.stack(cameras), -center)


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "gpu", "cuda:x"])
def test_an_unknown_device_is_named_with_those_that_exist(tiny_bundle, name):
    with pytest.raises(ValueError, match=f"device '{name}' is not available here; choose from cpu"):
        Estimator(tiny_bundle, name)


def test_known_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device(None).type == resolve_device("auto").type == expected
    assert so3.random_rotations(1, device=resolve_device(None)).device.type == expected


# --- models of rotations, and other paddings ---


def changed(bundle, **changes):
    """The bundle with another configuration and the same weights."""
    model = make_model(replace(bundle.model.config, **changes), bundle.model.keypoints)
    model.load_state_dict(bundle.model.state_dict())
    return replace(bundle, model=model.eval())


def test_a_model_of_rotations_takes_the_translation_for_known(tiny_bundle, image):
    rotation_only = Estimator(changed(tiny_bundle, rotation_only=True), "cpu", BEAM)
    estimates = np.array([[0.05, 0.02, 0.5], [-0.03, 0.0, 0.8], [0.0, 0.01, 0.4]])
    found = rotation_only.estimate(image, K, BOXES, estimates)
    for distribution, expected in zip(found, estimates, strict=True):
        center = torch.tensor(tiny_bundle.object.center)
        where = distribution.translations + distribution.rotations @ center
        torch.testing.assert_close(where, torch.tensor(expected).float().expand_as(where))
        assert len(distribution) == 72 + 7 * 20 + 7 * 20


def test_the_crops_have_the_models_padding(tiny_bundle, image):
    seen = []
    for padding in (1.5, 3.0):
        one = Estimator(changed(tiny_bundle, crop_padding=padding), "cpu", BEAM)
        one.search_crops = lambda crops, K_crop, *_: seen.append(K_crop)
        one.search(image, K, BOXES)
    torch.testing.assert_close(seen[0][:, :2, :2], 2 * seen[1][:, :2, :2])


def test_the_exhaustive_setting_scores_a_whole_level(tiny_bundle, image):
    bundle = changed(tiny_bundle, rotation_only=True)
    settings = SearchSettings(depth=2, exhaustive=True)
    (found,) = Estimator(bundle, "cpu", settings).estimate(image, K, BOXES[:1])
    assert len(found) == 576 and set(found.levels.tolist()) == {1}
    pruned = SearchSettings(beam=72, mass_tolerance=0.0, depth=2)
    (expected,) = Estimator(bundle, "cpu", pruned).estimate(image, K, BOXES[:1])
    assert_same(found, expected)
