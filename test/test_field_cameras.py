"""Cameras as people have them, from the message to the pose: answered right, or with a warning."""

from array import array
from dataclasses import replace

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from spyropose_ros.demo.camera import camera_info, visible_message
from spyropose_ros.demo.frames import open_frames
from spyropose_ros.ros.pipeline.camera_frame import Frame, FrameSet
from spyropose_ros.ros.pipeline.images import image_message
from spyropose_ros.ros.pipeline.models import Models, demo_bundle
from spyropose_ros.ros.pipeline.parameters import Parameters, SearchParameters
from spyropose_ros.ros.pipeline.pipeline import Pipeline
from spyropose_ros.ros.pipeline.tf_buffer import TransformBuffer

WIDTH, HEIGHT = 640, 480
PARAMETERS = Parameters(
    objects=(demo_bundle(),), device="cpu", threads=1, search=SearchParameters(beam=64)
)


@pytest.fixture(scope="module")
def models():
    return Models(PARAMETERS, lambda text: None)


@pytest.fixture(scope="module")
def shot():
    """A frame of the demo with the mug on the right."""
    return open_frames("mug", 3)[1]


@pytest.fixture
def frame(shot):
    """The messages of the shot, new ones for each test."""
    header = Header(frame_id="camera")
    header.stamp.sec = 1
    info = camera_info(shot.K, WIDTH, HEIGHT)
    info.header = header
    detections = visible_message(header, shot, "mug")
    return Frame("", image_message(header, shot.image), detections, info)


@pytest.fixture
def run(models, shot):
    """Processes a frame; returns the error of the leading mode in metres, and what was said."""

    def process(frame, rectified=True):
        said = []
        pipeline = Pipeline(
            models,
            TransformBuffer(),
            lambda reason, text, count=1: said.append(f"dropped: {text}"),
            said.append,
            debug=print,
        )
        result = pipeline.process(FrameSet((frame,)), replace(PARAMETERS, rectified=rectified))
        if result is None or not result.distributions:
            return None, said
        found = result.distributions[0].modes()[0].translation.numpy()
        return float(np.linalg.norm(found - shot.translation)), said

    return process


GOOD = 0.03  # metres


def test_the_frame_as_it_is(frame, run):
    error, said = run(frame)
    assert error < GOOD and said == []


@pytest.mark.parametrize(
    "model, d",
    [
        ("equidistant", [0.001, 0.002, -0.001, 0.0]),
        ("equidistant", [0.001, 0.002, -0.001, 0.0, 0.0]),
        ("fisheye", [0.001, 0.002, -0.001, 0.0]),
        ("plumb_bob", [-0.03, 0.035, -0.0001, -0.0001, -0.012, 0.0, 0.0, 0.0]),
        ("rational_polynomial", [-0.03, 0.035, -0.0001, -0.0001, -0.012] + [0.0] * 9),
        ("", []),
        ("", [0.0] * 5),
        ("none", []),
        ("None", [0.0] * 5),
    ],
)
def test_lens_models_as_drivers_fill_them(frame, run, model, d):
    frame.camera_info.distortion_model, frame.camera_info.d = model, d
    frame.camera_info.r = [0.0] * 9
    error, said = run(frame, rectified=False)
    assert error < GOOD and said == []


@pytest.mark.parametrize("left", [0, 200, 340])
@pytest.mark.parametrize("by_region", [False, True])
def test_a_crop_beside_the_principal_point(frame, shot, run, left, by_region):
    width, info = WIDTH - left, frame.camera_info
    cut = image_message(frame.image.header, shot.image[:, left:])
    for detection in frame.detections.detections:
        detection.bbox.center.position.x -= left
    if by_region:
        info.roi.x_offset, info.roi.width, info.roi.height = left, width, HEIGHT
    else:
        info.width, info.k[2], info.p[2] = width, info.k[2] - left, info.p[2] - left
    error, said = run(replace(frame, image=cut))
    assert error < GOOD and said == []


def scale_matrices(info, factor):
    info.k[:6] *= factor
    info.p[:8] *= factor


def already_binned(info, binning):
    info.width, info.height = binning * WIDTH, binning * HEIGHT
    info.binning_x = info.binning_y = binning


@pytest.mark.parametrize(
    "edit, text",
    [
        (lambda info: already_binned(info, 2), "camera_info: after binning and region of interest"),
        (lambda info: already_binned(info, 4), "camera_info: after binning and region of interest"),
        (lambda info: scale_matrices(info, 6), "which fits an image 6 times as large"),
        (lambda info: scale_matrices(info, 0.5), "which fits an image 0.5 times as large"),
    ],
)
def test_intrinsics_of_other_pixels_are_warned_of(frame, run, edit, text):
    edit(frame.camera_info)
    error, said = run(frame)
    assert error > 0.1  # wrong, so it must be said
    assert len(said) == 1 and text in said[0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_fewer_bits_in_mono16(frame, shot, run, bits, transport):
    grey = cv2.cvtColor(shot.image, cv2.COLOR_RGB2GRAY).astype(np.uint16) << (bits - 8)
    if transport == "raw":
        image = frame.image
        image.encoding, image.step, image.data = "mono16", 2 * WIDTH, array("B", grey.tobytes())
    else:
        data = array("B", cv2.imencode(".png", grey)[1].tobytes())
        image = CompressedImage(header=frame.image.header, data=data)
        image.format = "mono16; png compressed "
    error, said = run(replace(frame, image=image))
    assert error < GOOD and said == []


@pytest.mark.parametrize(
    "value, text", [(3, "nearly black"), (255, "saturated"), (100, "the same value everywhere")]
)
def test_an_image_that_shows_nothing_is_said(frame, run, value, text):
    empty = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
    _, said = run(replace(frame, image=image_message(frame.image.header, empty)))
    assert len(said) == 1 and said[0].startswith("image_rect: the image ") and text in said[0]
