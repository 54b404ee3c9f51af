"""The detector: boxes in the pixels of the image that came in, and bundles of its own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.errors import BundleError, InputError
from spyropose_ros.detector.boxes import overlap
from spyropose_ros.detector.bundle import (
    BOX_ERRORS,
    CONFIG,
    WEIGHTS,
    DetectorBundle,
    DetectorInfo,
    read_box_errors,
)
from spyropose_ros.detector.detector import Detector, _candidates, frame, resize
from spyropose_ros.detector.network import STRIDES, DetectionNetwork, cells
from spyropose_ros.scenes.detector import BoxNoise
from training.config import DataConfig
from training.data.box_noise import box_noise, bundle_noise

SHIPPED = Path(__file__).parents[1] / "models" / "nanodet_coco"


@pytest.fixture(scope="module")
def detector():
    return Detector.from_pretrained(SHIPPED, "cpu")


def boxes_of(detections, name):
    return torch.from_numpy(detections.boxes[[n == name for n in detections.names]])


@pytest.fixture
def small():
    """A detector of two objects, not trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DetectorBundle(DetectionNetwork(2).eval(), DetectorInfo(("mug", "can"), 64))


@pytest.fixture
def saved(small, tmp_path):
    small.save_pretrained(tmp_path / "bundle", half=False)
    return tmp_path / "bundle"


def edit(directory, **values):
    path = directory / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_measured_box_errors_are_kept(small, tmp_path):
    errors = np.array([[0.1, 0, 0.2, -0.1]], np.float32)
    replace(small, box_errors=errors).save_pretrained(tmp_path)
    np.testing.assert_array_equal(DetectorBundle.from_pretrained(tmp_path).box_errors, errors)
    noise = box_noise(DataConfig("measured", str(tmp_path)))
    np.testing.assert_allclose(
        noise.draw(np.random.default_rng(0)),
        [0.1 - 0.1107, 0.0476, 0.1 + 0.1107, -0.0476],
        atol=1e-4,
    )


def test_measured_box_errors_need_a_detector_that_has_them(saved):
    assert read_box_errors(saved) is None
    with pytest.raises(InputError, match="needs --detector"):
        box_noise(DataConfig("measured"))
    with pytest.raises(InputError, match="does not say how far its boxes are off"):
        box_noise(DataConfig("measured", str(saved)))
    assert bundle_noise(saved) == BoxNoise()


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (np.zeros((0, 4), np.float32), r"float32 \[0, 4\]"),
        (np.zeros((3, 3), np.float32), r"float32 \[3, 3\]"),
        (np.zeros((3, 4)), "float64"),
        (np.full((1, 4), np.nan, np.float32), "NaN"),
        (np.array([{}]), "damaged"),
    ],
)
def test_box_errors_that_cannot_be_true(saved, errors, reason):
    np.save(saved / BOX_ERRORS, errors)
    with pytest.raises(BundleError, match=reason):
        DetectorBundle.from_pretrained(saved)


def test_it_finds_a_person_and_her_tie(detector, photograph):
    detections = detector.detect(photograph)
    assert set(detections.names) == {"person", "tie"}
    assert detections.names == [detector.classes[i] for i in detections.classes]
    assert (np.diff(detections.scores) <= 0).all() and detections.scores[-1] >= 0.3
    person, tie = torch.tensor([8.0, 15, 510, 600]), torch.tensor([228.0, 427, 289, 537])  # by eye
    assert overlap(boxes_of(detections, "person")[0], person) > 0.9
    assert overlap(boxes_of(detections, "tie")[0], tie) > 0.85


def test_boxes_of_the_mirror_image_are_mirrored(detector, photograph):
    # Fails if the cells' centres are off by half a stride.
    last = photograph.shape[1] - 1
    (tie,) = boxes_of(detector.detect(photograph), "tie")
    (mirrored,) = boxes_of(detector.detect(photograph[:, ::-1]), "tie")
    back = torch.stack((last - mirrored[2], mirrored[1], last - mirrored[0], mirrored[3]))
    assert overlap(tie, back) > 0.9


@pytest.mark.parametrize("size", [(600, 400), (1500, 1280), (100, 85), (640, 640)])
def test_boxes_are_in_pixels_of_any_image(detector, photograph, size):
    height, width = size
    # A narrow, a large, a small and a wide copy; and the right half of a wide black image.
    image = np.array(Image.fromarray(photograph).resize((width, height)))
    person = boxes_of(detector.detect(image, 0.2), "person")
    assert overlap(person[0], torch.tensor([0.0, 0.03 * height, width, height])) > 0.85
    wide = np.concatenate((np.zeros_like(image), image), axis=1)
    person = boxes_of(detector.detect(wide, 0.2), "person")
    assert overlap(person[0], torch.tensor([width, 0.03 * height, 2 * width, height])) > 0.75


def test_boxes_lie_within_the_image_and_are_not_empty(small):
    for head in small.network.heads:  # every edge is one stride from the cell's centre
        head.edges.bias.data.view(4, -1)[:, 1] += 50
    image = np.random.default_rng(0).integers(0, 256, (20, 90, 3), dtype=np.uint8)
    # Scaled by 64 / 90, in a frame of 32 x 64: half of its cells see black only.
    boxes = Detector(small, "cpu").detect(image, 0.0, limit=1000).boxes
    assert len(boxes) > 10
    assert (boxes[:, :2] >= -0.5).all() and (boxes[:, 2:] <= (89.5, 19.5)).all()
    assert (boxes.min(0)[:2] == -0.5).all() and (boxes.max(0)[2:] == (89.5, 19.5)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (128, 64), (30, 40)])
def test_the_border_is_half_a_pixel_from_the_first_pixels_centre(small, size):
    for head in small.network.heads:  # every edge is one stride from the cell's centre
        torch.nn.init.zeros_(head.edges.weight)
        head.edges.bias.data.view(4, -1)[:, 1] += 50
    boxes = Detector(small, "cpu").detect(np.zeros((*size, 3), np.uint8), 0.0, limit=1000).boxes
    scale = max(size) / 64
    for axis in (0, 1):
        near, far = boxes[:, axis], boxes[:, axis + 2]
        last = size[1 - axis] - 0.5
        inner = [scale * stride * (i + 0.5) for stride in STRIDES for i in range(-1, 64 // stride)]
        expected = np.array([-0.5, last, *(x - 0.5 for x in inner)])
        assert np.abs(near[:, None] - expected).min(1).max() < 1e-3
        assert np.abs(far[:, None] - expected).min(1).max() < 1e-3
        assert near.min() == -0.5 and far.max() == last


def test_limits_and_nothing_found(detector, photograph):
    everything = detector.detect(photograph, 0.05)
    assert len(everything) > 3
    first = detector.detect(photograph, 0.05, limit=3)
    np.testing.assert_array_equal(first.boxes, everything.boxes[:3])
    nothing = detector.detect(photograph, 0.99)
    assert len(nothing) == 0 and nothing.names == []
    assert nothing.boxes.shape == (0, 4) and nothing.scores.shape == (0,)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_malformed_images(small, image):
    with pytest.raises(InputError, match=r"image must be RGB uint8 \[H, W, 3\]"):
        Detector(small, "cpu").detect(image)


@pytest.mark.parametrize("settings", [(-0.1, 1), (1.1, 1), (float("nan"), 1), (0.5, 0)])
def test_settings_out_of_range(small, settings):
    with pytest.raises(InputError, match="min_score must be in"):
        Detector(small, "cpu").detect(np.zeros((8, 8, 3), np.uint8), *settings)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (45, 70), (1, 200)])
def test_the_network_takes_images_of_any_size(small, size):
    image = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0))
    prediction = small.network(image)
    centers, strides = cells(*size)
    assert prediction.logits.shape == (2, len(centers), 2)
    assert prediction.edges.shape == (2, len(centers), 4, 11)
    assert set(strides.tolist()) == set(STRIDES)
    assert ((centers + 0.5) / strides[:, None] % 1 == 0.5).all()


def test_before_training_every_score_is_low(small):
    scores = small.network(torch.zeros(1, 3, 64, 64)).logits.sigmoid()
    assert scores.min() > 0.005 and scores.max() < 0.02


def test_resizing_keeps_the_ratio_and_the_frame_the_places():
    image = torch.full((1, 3, 480, 640), 255, dtype=torch.uint8)
    scaled = resize(image, 416)
    assert scaled.shape == (1, 3, 312, 416) and (scaled == 1).all()
    framed = frame(scaled)
    assert framed.shape == (1, 3, 320, 416)
    assert (framed[..., :312, :] == 1).all() and (framed[..., 312:, :] == 0).all()
    assert resize(image[..., :1], 64).shape == (1, 3, 64, 1)
    assert torch.equal(frame(framed), framed)


def test_shrinking_averages():
    image = torch.zeros((1, 3, 512, 512), dtype=torch.uint8)
    image[..., ::2] = 200  # a pattern that picking pixels would turn into one of its colours
    assert (resize(image, 64)[..., 2:-2] * 255 - 100).abs().max() <= 2


def test_round_trip_is_exact(small, saved):
    loaded = DetectorBundle.from_pretrained(saved)
    before, after = small.network.state_dict(), loaded.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before | after)
    assert loaded.info == small.info and loaded.record == {} and loaded.name == str(saved)
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())


def test_a_detector_without_a_record_is_loaded(saved):
    edit(saved, record=None)
    assert DetectorBundle.from_pretrained(saved).record == {}


def test_it_lies_beside_a_pose_model(small, tiny_bundle, tmp_path):
    tiny_bundle.save_pretrained(tmp_path)
    with pytest.raises(BundleError, match=f"{tmp_path} holds no detector: {CONFIG} is missing"):
        Detector.from_pretrained(tmp_path)
    small.save_pretrained(tmp_path)
    assert Detector.from_pretrained(tmp_path, "cpu").classes == ("mug", "can")
    assert ModelBundle.from_pretrained(tmp_path).object == tiny_bundle.object


def test_a_missing_folder(tmp_path):
    with pytest.raises(BundleError, match=f"no such folder; give.* {CONFIG} and {WEIGHTS}"):
        Detector.from_pretrained(tmp_path / "nowhere")


def test_a_pose_model_is_no_detector(saved):
    edit(saved, format="spyropose_ros/1")
    with pytest.raises(BundleError, match="is of format 'spyropose_ros/1', this package reads"):
        DetectorBundle.from_pretrained(saved)


@pytest.mark.parametrize("values", [{}, {"classes": ["mug"]}])
def test_damaged_or_other_weights(saved, values):
    edit(saved, **values)
    if not values:
        content = bytearray((saved / WEIGHTS).read_bytes())
        content[-1] ^= 1
        (saved / WEIGHTS).write_bytes(content)
    reason = f"does not fit the architecture in {CONFIG}" if values else "sha256 differs"
    with pytest.raises(BundleError, match=f"{WEIGHTS} .*{reason}"):
        DetectorBundle.from_pretrained(saved)


@pytest.mark.parametrize(
    "values",
    [
        {"classes": []},
        {"classes": None},
        {"classes": ["mug", "mug"]},
        {"classes": ["mug", ""]},
        {"classes": [1, 2]},
        {"side": 0},
        {"side": 100},
        {"side": "64"},
    ],
)
def test_a_config_that_describes_no_detector(saved, values):
    edit(saved, **values)
    with pytest.raises(BundleError, match=f"{CONFIG} does not describe a detector.*export"):
        DetectorBundle.from_pretrained(saved)


def test_the_shipped_bundle_has_its_licences():
    names = {"README.md", "NOTICE", "LICENSE-APACHE", "LICENSE-MIT", CONFIG, WEIGHTS}
    assert names == {file.name for file in SHIPPED.iterdir()}
    assert "Vladimir Mandic" in (SHIPPED / "LICENSE-MIT").read_text()
    assert "Copyright 2020-2021 RangiLyu" in (SHIPPED / "LICENSE-APACHE").read_text()


def test_of_equal_scores_the_first_cells_win():
    scores = torch.full((2000, 2), 0.5)
    scores[7, 1] = 0.6
    cell, classes, best = _candidates(scores, 0.4)
    pairs = (2 * cell + classes).tolist()
    assert pairs[0] == 15
    assert pairs[1:] == [pair for pair in range(len(pairs)) if pair != 15]
    assert (best.diff() <= 0).all()
