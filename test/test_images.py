"""Image messages to RGB and depth: every encoding, padded rows, files, and what is refused."""

import io
import os
import sys
import zlib
from array import array

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from spyropose_ros.ros.pipeline.drops import BadInputError, Reason
from spyropose_ros.ros.pipeline.images import (
    ENCODINGS,
    SYNONYMS,
    WIDE_ENCODINGS,
    converter,
    decode,
    decode_depth,
    image_message,
    rgb_image,
)
from spyropose_ros.ros.pipeline.rvl import decode_rvl

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
    for encoding in (*ENCODINGS, *SYNONYMS, *WIDE_ENCODINGS):
        raw = np.zeros((HEIGHT, WIDTH * 8), np.uint8)  # the longest row; more is padding
        assert rgb_image(message(encoding, raw)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("old, new", [("yuv422", "uyvy"), ("yuv422_yuy2", "yuyv")])
def test_new_names_of_old_encodings_mean_the_same(old, new):
    raw = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH * 2), dtype=np.uint8)
    np.testing.assert_array_equal(rgb_image(message(new, raw)), rgb_image(message(old, raw)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("padding", [0, 2])
def test_sixteen_bits_are_scaled_to_eight_in_either_byte_order(order, padding):
    wide = message(
        "rgb16", (RGB.astype(order + "u2") * 257).view(np.uint8), padding, is_bigendian=order == ">"
    )
    np.testing.assert_array_equal(rgb_image(wide), RGB)
    grey = np.linspace(0, 65535, HEIGHT * WIDTH).astype(order + "u2")
    picture = rgb_image(message("mono16", grey.view(np.uint8), is_bigendian=order == ">"))
    assert picture.max() == 255 and picture.min() == 0
    np.testing.assert_allclose(picture[..., 0].ravel(), grey / 257, atol=0.51)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_bits_that_a_sensor_uses_are_the_whole_range(bits, order):
    grey = np.linspace(0, 255, HEIGHT * WIDTH).round()
    raw = (grey * (2**bits - 1) / 255).round().astype(order + "u2").view(np.uint8)
    picture = rgb_image(message("mono16", raw, is_bigendian=order == ">"))
    np.testing.assert_array_equal(picture[..., 0].ravel(), grey)
    mosaic = np.full((HEIGHT, WIDTH), 90 * (2**bits - 1) // 255, order + "u2")
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 2**bits - 1, 30 * (2**bits - 1) // 255
    raw = mosaic.view(np.uint8)
    picture = rgb_image(message("bayer_rggb16", raw, is_bigendian=order == ">"))
    np.testing.assert_allclose(picture[1:-1, 1:-1].reshape(-1, 3)[0], [255, 90, 30], atol=1)


def test_a_nearly_black_image_of_sixteen_bits_stays_dark():
    raw = np.full((HEIGHT, WIDTH), 10, "<u2").view(np.uint8)
    assert rgb_image(message("mono16", raw)).max() == 10  # of 8 bits, not of 4


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
        ({"encoding": ""}, "'' is not supported: publish one of rgb8, bgr8"),
        ({"encoding": "uyvy", "width": 5}, "5 pixels wide: must be even"),
        ({"encoding": "rgb16"}, "step 18 is less than the 36"),
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
    with pytest.raises(BadInputError, match=text) as caught:
        rgb_image(message(**changes))
    assert caught.value.reason is Reason.BAD_IMAGE


# ---- compressed images --------------------------------------------------------------------------

SMOOTH = np.stack(np.broadcast_arrays(np.arange(64) * 3, np.arange(48)[:, None] * 4, 40), -1)
SMOOTH = SMOOTH.astype(np.uint8)  # [48, 64, 3]; red and blue differ
JPEG_LOSS = 12


def file(pixels, extension=".png"):
    """A file as OpenCV writes it from RGB or grey pixels."""
    blue_first = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return cv2.imencode(extension, np.ascontiguousarray(blue_first))[1].tobytes()


def compressed(data, format_text="jpeg"):
    return CompressedImage(format=format_text, data=array("B", data))


@pytest.mark.parametrize(
    "extension, format_text",
    [
        (".jpg", "jpeg"),
        (".jpg", "jpg"),
        (".jpg", ""),
        (".jpg", "rgb8; jpeg compressed bgr8"),
        (".jpg", "bgr8; jpeg compressed bgr8"),
        (".jpg", "rgba8; jpeg compressed bgr8"),
        (".jpg", "bgra8; jpeg compressed bgr8"),
        (".jpg", "bayer_rggb8; jpeg compressed bgr8"),
        (".jpg", "bayer_rggb16; jpeg compressed bgr8"),
        (".jpg", "yuv422; jpeg compressed bgr8"),
        (".jpg", "8UC3; jpeg compressed "),
        (".png", "png"),
        (".png", "rgb8; png compressed bgr8"),
        (".png", "rgba8; png compressed bgra8"),
        (".tiff", "tiff"),
        (".tiff", "bgr8; tiff compressed bgr8"),
    ],
)
def test_files_give_the_picture(extension, format_text):
    picture = decode(compressed(file(SMOOTH, extension), format_text))
    assert picture.dtype == np.uint8
    loss = JPEG_LOSS if extension == ".jpg" else 0
    np.testing.assert_allclose(picture.astype(int), SMOOTH, atol=loss)


def test_colours_swapped_in_the_file_are_put_right_as_image_transport_does():
    swapped = compressed(file(SMOOTH[..., ::-1]), "rgb8; png compressed rgb8")
    np.testing.assert_array_equal(decode(swapped), SMOOTH)


@pytest.mark.parametrize(
    "format_text", ["mono8; jpeg compressed ", "mono16; jpeg compressed mono8", "jpeg", "jpg", ""]
)
def test_grey_jpegs_are_decoded(format_text):
    picture = decode(compressed(file(SMOOTH[..., 0], ".jpg"), format_text))
    np.testing.assert_allclose(picture.astype(int), SMOOTH[..., :1].repeat(3, -1), atol=JPEG_LOSS)


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [12, 16])
def test_sixteen_bit_files_are_scaled(extension, bits):
    kind = extension[1:]
    bright = SMOOTH.copy()
    bright[0, 0] = 255
    wide = (bright * ((2**bits - 1) / 255)).round().astype(np.uint16)
    picture = decode(compressed(file(wide[..., 0], extension), f"mono16; {kind} compressed "))
    np.testing.assert_array_equal(picture, bright[..., :1].repeat(3, -1))
    picture = decode(compressed(file(wide, extension), f"rgb16; {kind} compressed bgr16"))
    np.testing.assert_array_equal(picture, bright)
    swapped = compressed(file(wide[..., ::-1], extension), f"rgb16; {kind} compressed rgb16")
    np.testing.assert_array_equal(decode(swapped), bright)


@pytest.mark.parametrize("name", ["bayer_rggb", "bayer_bggr", "bayer_gbrg", "bayer_grbg"])
def test_a_bayer_pattern_in_a_file_is_no_grey_image(name):
    mosaic = SMOOTH[..., 0].copy()
    mosaic[::2, ::2] //= 3
    mosaic[::2, 1::2] //= 2
    raw = Image(width=64, height=48, step=64, encoding=f"{name}8", data=array("B", mosaic.ravel()))
    expected = rgb_image(raw)
    found = decode(compressed(file(mosaic), f"{name}8; png compressed "))
    np.testing.assert_array_equal(found, expected)
    mosaic[0, 0] = 255  # or fewer bits would count as all
    raw.data = array("B", mosaic.ravel())
    wide = file(mosaic.astype(np.uint16) * 257)
    found = decode(compressed(wide, f"{name}16; png compressed "))
    np.testing.assert_array_equal(found, rgb_image(raw))
    assert (expected[..., 0] != expected[..., 2]).any()


def test_transparency_is_dropped_and_exif_rotation_not_applied():
    buffer = io.BytesIO()
    with_alpha = np.concatenate((SMOOTH, np.full((48, 64, 1), 9, np.uint8)), -1)
    PillowImage.fromarray(with_alpha).save(buffer, "PNG")
    np.testing.assert_array_equal(decode(compressed(buffer.getvalue())), SMOOTH)
    buffer, exif = io.BytesIO(), PillowImage.Exif()
    exif[0x0112] = 6  # a quarter turn
    PillowImage.fromarray(SMOOTH).save(buffer, "JPEG", exif=exif)
    assert decode(compressed(buffer.getvalue())).shape == SMOOTH.shape


@pytest.mark.parametrize(
    "data, text",
    [
        (b"", "0 bytes with format 'jpeg' is neither JPEG, PNG nor TIFF"),
        (b"hello" * 100, "neither JPEG, PNG nor TIFF, or cut off: set the publisher's format"),
        (cv2.imencode(".webp", SMOOTH)[1].tobytes(), "neither JPEG, PNG nor TIFF"),
        (file(SMOOTH, ".jpg")[:-200], "damaged .*truncated"),
        (file(SMOOTH)[:-200], "damaged"),
        (file(SMOOTH)[:40], "cut off"),
    ],
    ids=["empty", "text", "webp", "cut jpeg", "cut png", "head of a png"],
)
def test_unusable_files_are_refused(data, text):
    with pytest.raises(BadInputError, match=text) as caught:
        decode(compressed(data))
    assert caught.value.reason is Reason.BAD_IMAGE


@pytest.mark.parametrize(
    "format_text",
    ["zstd", "h264", "hevc", "theora", "ffmpeg", "avif", "rgb8; qoi compressed ", "rgb8; libx264"],
)
def test_what_is_not_understood_is_refused_by_name(format_text):
    data = np.random.default_rng(0).bytes(3 * 48 * 64)
    with pytest.raises(BadInputError, match=f"'{format_text}' is neither .*format to jpeg or png"):
        decode(compressed(data, format_text))


@pytest.mark.parametrize(
    "format_text, text",
    [
        ("16UC1; png compressed ", "'16UC1' is not supported: publish one of rgb8"),
        ("16UC1; compressedDepth png", "'16UC1' is not supported: publish one of rgb8"),
        ("32FC1; compressedDepth png", "'32FC1' is not supported"),
        ("16UC1; jpeg compressed ", "'8UC1' is not supported"),
        ("bayer_xyz8; png compressed ", "'bayer_xyz16' is not supported"),
    ],
)
def test_depth_is_not_taken_for_a_picture(format_text, text):
    pixels = SMOOTH[..., 0].astype(np.uint8 if "jpeg" in format_text else np.uint16)
    head = bytes(12) if "Depth" in format_text else b""
    with pytest.raises(BadInputError, match=text) as caught:
        decode(compressed(head + file(pixels), format_text))
    assert caught.value.reason is Reason.BAD_IMAGE


def png_of_size(width, height):
    """A small PNG whose head claims a size."""
    data = bytearray(file(SMOOTH))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused_before_they_are_decoded(size, monkeypatch):
    def load(*_):
        raise AssertionError("was decoded")

    monkeypatch.setattr(PillowImage.Image, "convert", load)
    with pytest.raises(BadInputError, match="larger than 100 megapixels"):
        decode(compressed(png_of_size(*size)))


@given(st.data())
def test_damaged_files_are_refused_or_give_a_picture_of_their_size(data):
    good = bytearray(file(SMOOTH, data.draw(st.sampled_from([".jpg", ".png", ".tiff"]))))
    for _ in range(data.draw(st.integers(1, 20))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(compressed(bytes(good)))
    except BadInputError as error:
        assert error.reason is Reason.BAD_IMAGE
    else:
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


# ---- depth --------------------------------------------------------------------------------------

DEPTH = np.linspace(0.1, 4.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).round(3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(
    "encoding, kind, unit", [("16UC1", "u2", 1000), ("mono16", "u2", 1000), ("32FC1", "f4", 1)]
)
def test_depth_is_read_in_metres(encoding, kind, unit, order, padding):
    raw = (DEPTH * unit).round(6).astype(order + kind).view(np.uint8)
    depth = decode_depth(message(encoding, raw, padding, is_bigendian=order == ">"))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, DEPTH, atol=1e-3)


def test_what_was_not_measured_is_nan():
    raw = DEPTH.astype("<f4")
    raw[0, :5] = 0, -1, np.inf, -np.inf, np.nan
    depth = decode_depth(message("32FC1", raw.view(np.uint8)))
    assert np.isnan(depth[0, :5]).all() and np.isfinite(depth).sum() == DEPTH.size - 5
    zeros = np.zeros((HEIGHT, WIDTH * 2), np.uint8)
    assert np.isnan(decode_depth(message("16UC1", zeros))).all()


@pytest.mark.parametrize(
    "bad, text",
    [
        (message("rgb8"), "'rgb8' is not supported: publish one of 16UC1, mono16, 32FC1"),
        (message(encoding="32FC1"), "step 18 is less than the 24"),
        (compressed(b"x", "16UC1; compressedDepth png"), "damaged"),
        (compressed(bytes(12), "16UC1; compressedDepth rvl"), "damaged"),
        (compressed(bytes(12) + b"\xff" * 8, "16UC1; compressedDepth rvl"), "100 megapixels"),
        (compressed(bytes(12), "16UC1; compressedDepth zlib"), "png or rvl"),
        (compressed(bytes(12), "rgb8; compressedDepth png"), "publish one of 16UC1, mono16, 32FC1"),
        (compressed(file(SMOOTH[..., 0], ".jpg"), "16UC1; jpeg compressed "), "'8UC1' is not supp"),
        (compressed(b"zstd", "zstd"), "neither JPEG, PNG nor TIFF"),
    ],
)
def test_unusable_depth_is_refused(bad, text):
    with pytest.raises(BadInputError, match=text) as caught:
        decode_depth(bad)
    assert caught.value.reason is Reason.BAD_DEPTH


MILLIMETRES = np.random.default_rng(0).integers(300, 65536, (48, 64)).astype(np.uint16)
MILLIMETRES[10:30, 5:40] = 0
MILLIMETRES[40:] = np.arange(500, 500 + 8 * 64).reshape(8, 64)
QUANTISATION = (100.0 * 101.0, 1.0 - 100.0 * 101.0 / 10.0)  # for depths up to 10 m, by the plugin
FORMATS = ["compressedDepth", "compressedDepth png", "compressedDepth rvl"]


def rvl(values):
    """Values of an image [H, W] as RVL, number by number."""
    halves, rest, before = [], values.ravel().tolist(), 0

    def write(number):
        more = True
        while more:
            more = number > 7
            halves.append(number % 8 + 8 * more)
            number //= 8

    while rest:
        zeros = next((i for i, value in enumerate(rest) if value), len(rest))
        rest = rest[zeros:]
        others = next((i for i, value in enumerate(rest) if not value), len(rest))
        write(zeros)
        write(others)
        for value in rest[:others]:
            difference, before = value - before, value
            write(2 * difference if difference >= 0 else -2 * difference - 1)
        rest = rest[others:]
    halves += [0] * (-len(halves) % 8)
    digits = "".join(f"{half:x}" for half in halves)
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    return np.array([values.shape[1], values.shape[0], *words], "<u4").tobytes()


def depth_file(values, encoding, codec):
    head = np.array([0], "<i4").tobytes() + np.array(QUANTISATION, "<f4").tobytes()
    body = rvl(values) if codec.endswith("rvl") else file(values)
    return compressed(head + body, f"{encoding}; {codec}")


def test_rvl_is_what_the_paper_says():
    # two zeros, then 5 and 4: differences 5 (10: 2 and 1) and -1 (1), in half bytes 2 2 a 1 1
    data = np.array([0x22A11000], "<u4").tobytes()
    assert rvl(np.array([[0, 0, 5, 4]], np.uint16))[8:] == data
    assert decode_rvl(data, 4).tolist() == [0, 0, 5, 4]


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
@pytest.mark.parametrize("codec", [*FORMATS, "png compressed "])
def test_compressed_depth_is_that_of_the_raw_image(encoding, codec):
    if codec in FORMATS:
        depth = decode_depth(depth_file(MILLIMETRES, encoding, codec))
    else:
        depth = decode_depth(compressed(file(MILLIMETRES), f"{encoding}; {codec}"))
    expected = np.where(MILLIMETRES > 0, MILLIMETRES / 1000, np.nan)
    np.testing.assert_allclose(depth, expected, rtol=1e-6)
    assert depth.dtype == np.float32


@pytest.mark.parametrize("codec", FORMATS)
def test_compressed_depth_in_metres_is_read_to_its_quantisation(codec):
    metres = np.linspace(0.4, 9.0, 48 * 64).reshape(48, 64).astype(np.float32)
    metres[10:20, 10:50] = np.nan
    inverse = np.nan_to_num(QUANTISATION[0] / metres + QUANTISATION[1]).astype(np.uint16)
    depth = decode_depth(depth_file(inverse, "32FC1", codec))
    assert np.isnan(depth[10:20, 10:50]).all()
    np.testing.assert_allclose(depth, metres, rtol=2e-3)


@given(st.data())
def test_damaged_rvl_is_refused_or_has_its_size(data):
    good = bytearray(depth_file(MILLIMETRES, "16UC1", FORMATS[2]).data)
    for _ in range(data.draw(st.integers(1, 20))):
        good[data.draw(st.integers(20, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(12, len(good)))
    try:
        depth = decode_depth(compressed(bytes(good[:cut]), "16UC1; compressedDepth rvl"))
    except BadInputError as error:
        assert error.reason is Reason.BAD_DEPTH
    else:
        assert depth.shape == MILLIMETRES.shape


# ---- the other way, and the library -------------------------------------------------------------


def test_filled_image_reads_back():
    header = Header(frame_id="camera")
    filled = image_message(header, RGB)
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
