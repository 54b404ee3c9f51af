"""Photographs and videos: cameras from every source, EXIF, boxes, results, exit codes."""

import base64
import json
import math
import os
import re
import shutil
import struct
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image

from model_tools import coloured_box, untrained_model
from spyropose_ros.core.errors import CalibrationError, DataError, InputError, MissingFileError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.detector.detector import Detector
from spyropose_ros.photos import estimate as command
from spyropose_ros.photos import terminal
from spyropose_ros.photos.cameras import choose_camera
from spyropose_ros.photos.estimates import GivenBoxes
from spyropose_ros.photos.files import expand, pictures, read_picture
from spyropose_ros.photos.photograph import photograph, read_photograph
from spyropose_ros.photos.results import ResultFolder, png
from spyropose_ros.scenes.verification import Verification

ROOT = Path(__file__).parents[1]
MUG = ROOT / "docs/mug.jpg"
K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
RECTIFIED = np.diag([0.9, 0.9, 1]) @ K
BASE = ExifTags.Base


def save(path, width=40, height=30, orientation=None, **tags):
    """An image whose left half is red and right half is blue, with EXIF data."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 250
    exif = Image.Exif()
    if orientation:
        exif[BASE.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif).update({BASE[name]: value for name, value in tags.items()})
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def quiet(path, **camera):
    """Read a photograph whose warnings do not matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_photograph(path, **camera)


# ---- cameras ------------------------------------------------------------------------------------


def test_given_intrinsics(tmp_path):
    picture = save(tmp_path / "a.png", 640, 480)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photo = read_photograph(picture, K=K)
    np.testing.assert_array_equal(photo.K, K)
    assert photo.image is photo.picture.pixels


def test_given_intrinsics_of_another_size_are_doubted(tmp_path):
    with pytest.warns(UserWarning, match="fits an image .* use the calibration of this"):
        read_photograph(save(tmp_path / "a.png", 320, 240), K=K)


def test_a_field_of_view_spans_the_width(tmp_path):
    photo = read_photograph(save(tmp_path / "a.png", 200, 100), fov=90)
    np.testing.assert_allclose(photo.K, [[100, 0, 99.5], [0, 100, 49.5], [0, 0, 1]])


@pytest.mark.parametrize("camera", [{"fov": 0}, {"fov": 180}, {"K": np.eye(2)}])
def test_cameras_that_cannot_be_are_refused(camera):
    with pytest.raises(InputError, match="between 0 and 180 degrees|3x3"):
        choose_camera(**camera)


def test_more_than_one_camera_is_refused():
    with pytest.raises(InputError, match="choose one of --camera-info .* --K .* --fov"):
        choose_camera(K=K, fov=50)


def calibration(d=(-0.3, 0.1, 0.001, -0.002, 0.0), **changes):
    """As camera_calibration writes it."""

    def matrix(rows, columns, data):
        return {"rows": rows, "cols": columns, "data": list(map(float, data))}

    return {
        "image_width": 640,
        "image_height": 480,
        "camera_name": "head",
        "camera_matrix": matrix(3, 3, K.ravel()),
        "distortion_model": "plumb_bob",
        "distortion_coefficients": matrix(1, len(d), d),
        "rectification_matrix": matrix(3, 3, np.eye(3).ravel()),
        "projection_matrix": matrix(3, 4, np.insert(RECTIFIED, 3, 0, axis=1).ravel()),
    } | changes


def topic_echo(driver):
    """The same as ros2 topic echo prints it."""
    message = {
        "header": {"frame_id": "head"},
        "height": driver["image_height"],
        "width": driver["image_width"],
        "distortion_model": driver["distortion_model"],
        "d": driver["distortion_coefficients"]["data"],
        "k": driver["camera_matrix"]["data"],
        "r": driver["rectification_matrix"]["data"],
        "p": driver["projection_matrix"]["data"],
        "binning_x": 0,
        "binning_y": 0,
        "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
    }
    return yaml.safe_dump(message) + "---\n"


@pytest.mark.parametrize("write", [yaml.safe_dump, topic_echo])
def test_a_calibration_file_corrects_the_lens(write, tmp_path):
    content = calibration()
    (tmp_path / "camera.yaml").write_text(write(content))
    photo = read_photograph(MUG, camera_info=tmp_path / "camera.yaml")
    np.testing.assert_allclose(photo.K, RECTIFIED)
    D = np.array(content["distortion_coefficients"]["data"])
    maps = cv2.initUndistortRectifyMap(K, D, None, RECTIFIED, (640, 480), cv2.CV_32FC1)
    expected = cv2.remap(photo.picture.pixels, *maps, cv2.INTER_LINEAR)
    assert np.abs(photo.image.astype(int) - expected).mean() < 0.5
    ((box, score),) = GivenBoxes([(300.0, 200.0, 380.0, 290.0)])(photo)
    corners = np.array([[[300.0, 200.0]], [[380.0, 290.0]]])
    corners = cv2.undistortPoints(corners, K, D, P=RECTIFIED).ravel()
    np.testing.assert_allclose(box, corners, atol=1)
    assert score is None


@pytest.mark.parametrize(
    "text, problem",
    [
        ("%YAML:1.0\n--- !!opencv-matrix\na: 1", "is not valid YAML"),
        ("a: [1", "is not valid YAML"),
        ("", "is not the calibration of a camera .*'width'"),
        ("- 1", "is not the calibration of a camera"),
        (yaml.safe_dump(calibration(image_width=None)), "is not the calibration of a camera"),
        (
            yaml.safe_dump(calibration(camera_matrix={"data": [1.0]})),
            "is not the .*1 values in K, not",
        ),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(text, problem, tmp_path):
    (tmp_path / "camera.yaml").write_text(text)
    with pytest.raises(CalibrationError, match=f"camera.yaml {problem}.*: give the YAML file"):
        choose_camera(camera_info=tmp_path / "camera.yaml")


def test_a_calibration_of_other_images_is_refused(tmp_path):
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump(calibration()))
    picture = save(tmp_path / "small.png", 320, 240)
    with pytest.raises(CalibrationError, match="camera.yaml for .*small.png: .*640x480 .*320x240"):
        read_photograph(picture, camera_info=tmp_path / "camera.yaml")
    with pytest.raises(MissingFileError, match="none.yaml: no such calibration file"):
        choose_camera(camera_info=tmp_path / "none.yaml")


# ---- EXIF ---------------------------------------------------------------------------------------


def test_the_focal_length_on_film_comes_first(tmp_path):
    tags = {"FocalLengthIn35mmFilm": 26, "FocalLength": 5.0, "FocalPlaneXResolution": 9.0}
    picture = save(tmp_path / "a.jpg", 400, 300, **tags)
    with pytest.warns(UserWarning, match="26 mm on 35 mm film.* about 5 %.*--camera-info"):
        photo = read_photograph(picture)
    # a phone's 26 mm: the diagonal of the image stands for that of the film, 43.27 mm
    focal = 26 / 43.2666 * 500
    np.testing.assert_allclose(photo.K, [[focal, 0, 199.5], [0, focal, 149.5], [0, 0, 1]], 1e-5)


@pytest.mark.parametrize("unit, density", [(2, 25.4), (3, 10.0), (4, 1.0)])
def test_the_focal_length_by_the_density_of_pixels(unit, density, tmp_path):
    tags = {
        "FocalLengthIn35mmFilm": 0,  # unknown, as EXIF defines it
        "FocalLength": 8.0,
        "FocalPlaneXResolution": 100 * density,
        "FocalPlaneYResolution": 110 * density,
        "FocalPlaneResolutionUnit": unit,
        "ExifImageWidth": 800,
        "ExifImageHeight": 600,
    }
    photo = quiet(save(tmp_path / "a.jpg", 400, 300, **tags))  # halved since it was taken
    np.testing.assert_allclose(np.diag(photo.K), [400, 440, 1])


def test_an_image_on_its_side_is_turned_with_its_camera(tmp_path):
    tags = {
        "FocalLength": 8.0,
        "FocalPlaneXResolution": 1000.0,
        "FocalPlaneYResolution": 1100.0,
        "FocalPlaneResolutionUnit": 3,
    }
    photo = quiet(save(tmp_path / "a.png", 40, 30, orientation=6, **tags))
    assert photo.picture.turned == "turned clockwise by 90 degrees"
    assert photo.image.shape == (40, 30, 3)
    assert photo.image[0, 0].tolist() == [250, 0, 0]  # the left side is the upper one now
    assert photo.image[-1, 0].tolist() == [0, 0, 250]
    np.testing.assert_allclose(np.diag(photo.K), [880, 800, 1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_set_upright_and_said(orientation, tmp_path):
    picture = read_picture(save(tmp_path / "a.png", orientation=orientation))
    assert picture.size == ((40, 30) if orientation < 5 else (30, 40))
    assert bool(picture.turned) == (orientation > 1)


def test_a_cropped_image_is_doubted(tmp_path):
    tags = {"FocalLengthIn35mmFilm": 26, "ExifImageWidth": 400, "ExifImageHeight": 300}
    with pytest.warns(UserWarning) as said:
        read_photograph(save(tmp_path / "a.jpg", 200, 300, **tags))
    assert any("if it was cropped" in str(each.message) for each in said)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"FocalLength": 5.0},
        {"FocalLengthIn35mmFilm": 0},
        {"FocalLength": 5.0, "FocalPlaneXResolution": 0.0, "FocalPlaneYResolution": 0.0},
        {"FocalLength": 5.0, "FocalPlaneXResolution": 9.0, "FocalPlaneResolutionUnit": 1},
    ],
)
def test_an_unknown_camera_names_the_three_ways(tags, tmp_path):
    picture = save(tmp_path / "a.jpg", **tags)
    with pytest.raises(InputError, match="a.jpg has no focal length .*--camera-info.*--K.*--fov"):
        read_photograph(picture)


def test_damaged_exif_data_say_nothing(tmp_path):
    path = save(tmp_path / "a.jpg", orientation=6, FocalLengthIn35mmFilm=26)
    content = path.read_bytes()
    start = content.index(b"Exif\0\0") + 6
    path.write_bytes(content[:start] + bytes(20) + content[start + 20 :])
    picture = read_picture(path)
    assert picture.lens.focal is None and picture.turned == ""


# ---- files --------------------------------------------------------------------------------------


def test_a_folder_stands_for_its_images_and_videos_by_name(tmp_path):
    folder = tmp_path / "Fotos für später"
    folder.mkdir()
    for name in ("b.PNG", "a.jpg", "c.mp4", "notes.txt", "._a.jpg"):
        (folder / name).touch()
    (folder / "d.png").mkdir()
    assert [path.name for path in expand([folder])] == ["a.jpg", "b.PNG", "c.mp4"]
    odd = folder / "notes.txt"  # given by name, it is tried
    assert expand([odd, folder / "a.jpg"]) == [odd, folder / "a.jpg"]


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no image and no video: .*jpg"):
        expand([tmp_path])
    with pytest.raises(MissingFileError, match="a.jpg: no such file or folder"):
        expand([tmp_path / "a.jpg"])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(mode, tmp_path):
    grey = np.full((4, 6), 128, np.uint8)
    if mode == "I;16":
        image = Image.fromarray(np.uint16(grey) * 257)
    else:
        image = Image.fromarray(grey).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    pixels = read_picture(path).pixels
    assert pixels.shape == (4, 6, 3) and pixels.dtype == np.uint8
    assert abs(pixels.mean() - 128) < 2 or mode == "1"


@pytest.mark.parametrize("content", [b"", b"no image", MUG.read_bytes()[:5000]])
def test_an_image_that_cannot_be_read_is_named(content, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match="a.jpg cannot be read as an image .*convert it to JPEG"):
        read_picture(path)


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_a_video_that_cannot_be_read_is_named(content, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match="a.mp4 cannot be read as a video: convert it to MP4"):
        list(pictures(path))


def test_an_image_of_distances_is_no_photograph(tmp_path):
    Image.fromarray(np.ones((4, 6), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a.tif .*\(mode F\): convert it to .* of 8 bits"):
        read_picture(tmp_path / "a.tif")


def write_video(path, greys):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for grey in greys:
        writer.write(np.full((48, 64, 3), (0, 0, grey), np.uint8))  # BGR
    writer.release()
    return path


def test_a_video_gives_each_nth_frame(tmp_path):
    video = write_video(tmp_path / "clip.avi", range(0, 250, 25))
    frames = list(pictures(video, every=4))
    assert [frame.frame for frame in frames] == [0, 4, 8]
    assert [frame.stem for frame in frames] == ["clip_000000", "clip_000004", "clip_000008"]
    reds = [frame.pixels[..., 0].mean() for frame in frames]
    np.testing.assert_allclose(reds, [0, 100, 200], atol=8)
    with pytest.raises(InputError, match="clip.avi frame 0 has no focal length"):
        photograph(frames[0], choose_camera())


def test_a_video_that_was_taken_upright_is_upright(tmp_path):
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    left_white = np.zeros((48, 64, 3), np.uint8)
    left_white[:, :32] = 255
    writer.write(left_white)
    writer.release()
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # of a track's header: clockwise by 90 degrees
    turn = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", *turn)
    path.write_bytes(content)
    (frame,) = pictures(path)
    assert frame.turned == "turned by 90 degrees"
    assert frame.size == (48, 64)
    assert frame.pixels[:24].mean() > 200 > 50 > frame.pixels[40:].mean()


# ---- results ------------------------------------------------------------------------------------


DOT = np.zeros((1, 1, 3), np.uint8)


def test_results_of_one_name_lie_side_by_side(tmp_path):
    for run in range(2):
        folder = ResultFolder(tmp_path)
        for number in range(2):
            overlay = None if number else DOT
            folder.write("a", {"run": run, "number": number}, {"overlay": overlay})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.json", "a_2.json", "a_overlay.png"}
    assert json.loads((tmp_path / "a_2.json").read_text()) == {"run": 1, "number": 1}


def test_pictures_of_an_earlier_run_do_not_stay(tmp_path):
    ResultFolder(tmp_path).write("a", {}, {"overlay": DOT})
    ResultFolder(tmp_path).write("a", {}, {"overlay": None})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


class Terminal:
    def __init__(self, interactive=True):
        self._interactive = interactive

    def isatty(self):
        return self._interactive


@pytest.mark.parametrize(
    "environment, begin",
    [
        ({"TERM": "xterm-kitty"}, "\033_Ga=T,f=100,q=2,m="),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "\033]1337;File=inline=1"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "\033]1337;File=inline=1"),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
        ({"TERM": "screen.xterm-256color", "LC_TERMINAL": "iTerm2"}, None),
    ],
)
def test_pictures_are_shown_only_by_terminals_that_can(environment, begin):
    encode = terminal.encoder(Terminal(), environment)
    assert terminal.encoder(Terminal(interactive=False), environment) is None
    assert (encode is None) == (begin is None)
    if encode:
        content = png(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8))
        text = encode(content)
        assert text.startswith(begin)
        pieces = text.replace("\033\\", "\007").removesuffix("\007").split("\007")
        chunks = [piece.rpartition(":")[2].rpartition(";")[2] for piece in pieces]
        assert base64.b64decode("".join(chunks)) == content
        assert max(map(len, chunks)) <= 4096 or "1337" in begin


# ---- the command --------------------------------------------------------------------------------

BOX = ("--box", "312", "164", "438", "306")
CAMERA = ("--fov", "56.1")
COCO = ("--detector", str(ROOT / "models/nanodet_coco"))


@pytest.fixture
def run(tiny_bundle, tmp_path, capsys, monkeypatch):
    """Runs the command with an untrained model: exit code, stdout, stderr, records by file."""
    tiny_bundle.save_pretrained(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = command.main([*map(str, arguments), "--model", "bundle", "--device", "cpu"])
        records = {
            path.name: json.loads(path.read_text())
            for path in sorted(Path("estimate_output").glob("*.json"))
        }
        return code, *capsys.readouterr(), records

    return run


def test_the_record_is_what_the_estimator_says(run):
    other = ("--box", "100", "100", "200", "180")
    code, out, err, records = run(MUG, *CAMERA, *BOX, *other)
    assert (code, err) == (0, "")
    (record,) = records.values()
    photo = read_photograph(MUG, fov=56.1)
    boxes = np.float32([[312, 164, 438, 306], [100, 100, 200, 180]])
    expected = Estimator.from_pretrained("bundle", "cpu").estimate(photo.image, photo.K, boxes)
    assert record["image"] == str(MUG) and record["frame"] is None
    assert (record["width"], record["height"], record["turned"]) == (640, 480, "")
    assert record["model"] == "bundle"
    assert record["camera"] == {
        "K": photo.K.tolist(),
        "source": "field of view of 56.1 degrees",
        "rectified_here": False,
        "warnings": [],
    }
    for found, distribution, box in zip(record["objects"], expected, boxes, strict=True):
        assert (found["class"], found["score"], found["box"]) == ("thing", None, box.tolist())
        assert found["presence"] is None and math.isnan(distribution.presence)
        assert found["entropy"] == distribution.entropy()
        assert found["mode"]["translation"] == distribution.mode()[1].tolist()
        assert found["mean"]["rotation"] == distribution.mean()[0].tolist()
        assert found["covariance"] == distribution.covariance().tolist()
        modes = distribution.modes()
        assert len(found["modes"]) == len(modes)
        for said, mode in zip(found["modes"], modes, strict=True):
            assert said["mass"] == mode.mass
            assert said["rotation"] == mode.rotation.tolist()
            assert said["translation"] == mode.translation.tolist()
            assert said["covariance"] == mode.covariance.tolist()
    lines = out.splitlines()
    assert f"{expected[0].entropy():.1f}" in lines[-3] and "given" in lines[-3]
    posed = sum(bool(distribution.modes()) for distribution in expected)
    note = {0: ", none of them with a mode", 1: ", 1 of them with a mode", 2: ""}[posed]
    assert lines[-1] == f"2 x thing in 1 image{note}; results are in estimate_output"
    for name, size in (("overlay", (640, 480)), ("rotations", (480, 2 * (320 + 20)))):
        assert Image.open(f"estimate_output/mug_{name}.png").size == size


def test_modes_are_weighed_by_renderings_on_request(run, tiny_bundle):
    model, temperatures = untrained_model(seed=4), [0.001] * 3  # several modes
    replace(tiny_bundle, model=model, temperatures=temperatures).save_pretrained("bundle")
    coloured_box().export("bundle/mesh.ply")
    box = np.float32([312, 164, 438, 306])
    photo, estimator = read_photograph(MUG, fov=56.1), Estimator.from_pretrained("bundle", "cpu")
    (before,) = estimator.estimate(photo.image, photo.K, box[None])
    after = Verification.of_bundle(estimator)(photo.image, photo.K, box, before)
    for options, expected in (((), before), (("--verify",), after)):
        code, _, err, records = run(MUG, *CAMERA, *BOX, *options)
        (found,) = records["mug.json"]["objects"]
        assert (code, err, found["entropy"]) == (0, "", expected.entropy())
        assert [mode["mass"] for mode in found["modes"]] == [m.mass for m in expected.modes()]
    assert len(after.modes()) > 1 and after.entropy() != before.entropy()


def test_the_detector_s_boxes_go_to_the_estimator_as_they_are(run):
    code, _, err, records = run(MUG, *CAMERA, *COCO, "--class", "cup", "--min-score", "0.2")
    assert (code, err) == (0, "")
    found = Detector.from_pretrained(COCO[1], "cpu").detect(np.array(Image.open(MUG)), 0.2)
    cups = [i for i, name in enumerate(found.names) if name == "cup"]
    assert 0 < len(cups) < len(found)
    objects = records["mug.json"]["objects"]
    assert [each["box"] for each in objects] == found.boxes[cups].tolist()
    assert [each["score"] for each in objects] == found.scores[cups].tolist()


def test_a_large_photograph_is_drawn_smaller(run):
    picture = Image.open(MUG).resize((1760, 1320))
    picture.save("large.jpg")
    box = [str(2.75 * float(corner)) for corner in BOX[1:]]
    run("large.jpg", *CAMERA, "--box", *box)
    assert Image.open("estimate_output/large_overlay.png").size == (1600, 1200)


def test_nothing_found_is_an_exit_code_of_its_own(run):
    shutil.copy(MUG, "mug.jpg")
    code, out, err, records = run("mug.jpg", *CAMERA, *COCO, "--class", "zebra")
    assert code == 3
    assert out.splitlines()[-1].split() == ["mug.jpg", "nothing", "found"]
    assert err == (
        "estimate: no thing with a score of 0.5 or more in 1 image: give --min-score a lower "
        "value, or say with --box where it is\n"
    )
    assert records["mug.json"]["objects"] == []
    assert [path.name for path in Path("estimate_output").iterdir()] == ["mug.json"]


def test_one_bad_image_does_not_stop_the_others(run):
    folder = Path("Fotos für später")
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no image")
    shutil.copy(MUG, folder / "b.jpg")
    code, out, err, records = run(folder, *CAMERA, *BOX)
    assert code == 1
    assert err.startswith(f"estimate: {folder}/a.jpg cannot be read as an image (unknown format)")
    assert len(err.splitlines()) == 1
    assert list(records) == ["b.json"] and records["b.json"]["image"] == str(folder / "b.jpg")
    assert out.splitlines()[-1].startswith("1 x thing in 1 image")


def test_a_name_cannot_write_to_the_terminal(run):
    shutil.copy(MUG, "red\033[31m.jpg")
    code, out, _, records = run("red\033[31m.jpg", *CAMERA, *BOX)
    assert code == 0 and "\033" not in out and "red\\x1b[31m.jpg" in out
    assert list(records) == ["red\033[31m.json"]


def test_what_is_said_of_every_image_is_said_once(run, tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.jpg", 64, 48, orientation=3, FocalLengthIn35mmFilm=26)
    _, _, err, _ = run("a.jpg", "b.jpg", "--box", "10", "10", "40", "40")
    lines = err.splitlines()
    assert lines[0] == "a.jpg: turned by 180 degrees, as the file says"
    assert lines[1].startswith("warning: focal length of 48 pixels from EXIF")
    assert lines[2:] == ["b.jpg: turned by 180 degrees, as the file says"]


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["none.jpg", *CAMERA, *BOX], "none.jpg: no such file or folder"),
        ([MUG, *BOX], "mug.jpg has no focal length in EXIF data"),
        ([MUG, "--fov", "200", *BOX], "a field of view is between 0 and 180 degrees, got 200"),
        ([MUG, "--camera-info", "no.yaml", *BOX], "no.yaml: no such calibration file"),
        ([MUG, *CAMERA], "bundle has no detector: say where the object is with --box"),
        ([MUG, *CAMERA, *COCO], "does not know 'thing' but person, .*: give one of these with"),
        ([MUG, *CAMERA, *COCO, "--class", "cup", "--min-score", "2"], "between 0 and 1: --min-s"),
        ([MUG, *CAMERA, "--detector", "nowhere"], "no model bundle at 'nowhere'"),
        (
            [MUG, *CAMERA, "--box", "700", "9", "900", "99"],
            "centre .* outside the 640x480 image",
        ),
        ([MUG, *CAMERA, *BOX, "--output", "bundle/config.json"], r"json \(File exists\): choose"),
        (
            [MUG, *CAMERA, *BOX, "--verify"],
            "bundle has no mesh to render the modes of 'thing' with: .* to bundle/mesh.ply",
        ),
        ([MUG, *CAMERA, *BOX, "--output", "/sys"], "no results can be written to /sys .*--output"),
    ],
)
def test_what_cannot_work_is_one_line_with_the_remedy(run, arguments, text):
    code, out, err, records = run(*arguments)
    assert code == 1 and len(err.splitlines()) == 1 and not records
    assert err.startswith("estimate: ")
    assert re.search(text, err), err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [MUG, *CAMERA, "--K", "600", "600", "320", "240"],
        [MUG, *CAMERA, *BOX, *COCO],
        [MUG, *CAMERA, *BOX, "--every", "0"],
        [MUG, *CAMERA, "--box", "1", "2", "3"],
    ],
)
def test_wrong_arguments_end_as_everywhere(run, arguments, capsys):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ./run estimate")


def test_a_full_disk_is_one_line_and_keeps_what_is_complete(run):
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(MUG, name)
    Path("estimate_output").mkdir()
    partial = Path(f"estimate_output/b_rotations.png.{os.getpid()}.partial")
    partial.symlink_to("/dev/full")
    code, out, err, records = run("a.jpg", "b.jpg", *CAMERA, *BOX)
    assert code == 1
    assert err == (
        "estimate: the disk of estimate_output/b_rotations.png is full: free some space and run "
        "the command again, or give another folder\n"
    )
    assert list(records) == ["a.json"]
    assert not list(Path("estimate_output").glob("*.partial"))


def test_pictures_are_shown_after_their_row(run, monkeypatch):
    monkeypatch.setattr(terminal, "encoder", lambda stream, environment: lambda content: "[png]")
    _, out, _, _ = run(MUG, *CAMERA, *BOX)
    assert out.splitlines()[-3:-1] == ["[png]", "[png]"] and "mug.jpg" in out.splitlines()[-4]
    _, out, _, _ = run(MUG, *CAMERA, *BOX, "--no-show")
    assert "[png]" not in out
