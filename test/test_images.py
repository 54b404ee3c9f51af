"""Image messages to RGB arrays: every encoding, padded rows, and what is refused."""

import os
import sys
from array import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from spyropose_ros.ros.diagnostics import BadInput, Reason
from spyropose_ros.ros.images import ENCODINGS, converter, fill_image, rgb_image

WIDTH, HEIGHT = 6, 4
RGB = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
ALPHA = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
RAW = {
    "rgb8": RGB,
    "bgr8": RGB[..., ::-1],
    "rgba8": np.concatenate((RGB, ALPHA), -1),
    "bgra8": np.concatenate((RGB[..., ::-1], ALPHA), -1),
}


def message(encoding="rgb8", raw=None, padding=0, **changes):
    raw = RAW.get(encoding, RGB) if raw is None else raw
    rows = np.ascontiguousarray(raw).reshape(HEIGHT, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    result = Image(width=WIDTH, height=HEIGHT, encoding=encoding, step=rows.shape[1])
    result.data = array("B", rows.tobytes())
    for name, value in changes.items():
        setattr(result, name, value)
    return result


@pytest.mark.parametrize("encoding", RAW)
@pytest.mark.parametrize("padding", [0, 1, 5])
def test_colour_encodings_give_the_same_picture(encoding, padding):
    np.testing.assert_array_equal(rgb_image(message(encoding, padding=padding)), RGB)


def test_grey_is_repeated_in_all_channels():
    grey = RGB[..., :1]
    np.testing.assert_array_equal(
        rgb_image(message("mono8", grey, padding=2)), np.repeat(grey, 3, -1)
    )


def test_bayer_keeps_the_colour_of_a_plain_surface():
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 200, 30  # red, blue
    mosaic[::2, 1::2] = mosaic[1::2, ::2] = 90
    picture = rgb_image(message("bayer_rggb8", mosaic))
    np.testing.assert_array_equal(picture[1:-1, 1:-1].reshape(-1, 3)[0], [200, 90, 30])


def test_yuv422_is_uyvy():
    uyvy = np.tile(np.array([90, 120, 200, 120], np.uint8), (HEIGHT, WIDTH // 2))
    expected = cv2.cvtColor(uyvy.reshape(HEIGHT, WIDTH, 2), cv2.COLOR_YUV2RGB_UYVY)
    np.testing.assert_array_equal(rgb_image(message("yuv422", uyvy)), expected)


def test_every_listed_encoding_is_converted():
    for encoding, size in ENCODINGS.items():
        raw = np.zeros((HEIGHT, WIDTH * size), np.uint8)
        assert rgb_image(message(encoding, raw)).shape == (HEIGHT, WIDTH, 3)


def test_byte_order_does_not_matter_for_bytes():
    np.testing.assert_array_equal(rgb_image(message(is_bigendian=1)), RGB)


def test_missing_padding_of_the_last_row_is_no_error():
    padded = message(padding=5)
    padded.data = padded.data[:-5]
    np.testing.assert_array_equal(rgb_image(padded), RGB)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"encoding": "32FC1"}, "'32FC1' is not supported"),
        ({"encoding": ""}, "'' is not supported"),
        ({"width": 0}, "empty"),
        ({"height": 0}, "empty"),
        ({"step": 3 * WIDTH - 1}, "step 17 is less than the 18"),
        ({"step": 0}, "step 0"),
        ({"data": array("B")}, "cut off: 0 bytes instead of 72"),
        ({"data": array("B", bytes(71))}, "cut off: 71 bytes"),
        ({"height": 10**9}, "cut off"),
    ],
)
def test_unusable_images_are_refused_by_name(changes, text):
    with pytest.raises(BadInput, match=text) as caught:
        rgb_image(message(**changes))
    assert caught.value.reason is Reason.BAD_IMAGE


def test_filled_image_reads_back():
    header = Header(frame_id="camera")
    filled = fill_image(Image(), header, RGB)
    assert filled.header == header
    np.testing.assert_array_equal(rgb_image(filled), RGB)


@pytest.fixture
def installed_cv_bridge(tmp_path, monkeypatch):
    """Puts a cv_bridge module with the given body of imgmsg_to_cv2 on the path."""

    def install(body):
        (tmp_path / "cv_bridge.py").write_text(
            "import os\nimport numpy\nclass CvBridge:\n"
            f"    def imgmsg_to_cv2(self, message, encoding):\n        {body}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        monkeypatch.setenv("PYTHONPATH", path)
        converter.cache_clear()

    yield install
    converter.cache_clear()
    sys.modules.pop("cv_bridge", None)


def test_a_working_cv_bridge_is_used(installed_cv_bridge):
    installed_cv_bridge("return numpy.full((message.height, message.width, 3), 42, numpy.uint8)")
    assert (rgb_image(message()) == 42).all()


@pytest.mark.parametrize("body", ["os.abort()", "raise AttributeError('_ARRAY_API not found')"])
def test_a_cv_bridge_that_crashes_is_not(installed_cv_bridge, body):
    installed_cv_bridge(body)
    np.testing.assert_array_equal(rgb_image(message()), RGB)
