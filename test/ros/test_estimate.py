"""./run estimate as a process, with the shipped mug: folder, video, nothing found, Ctrl-C."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PICTURES = [ROOT / "docs" / name for name in ("mug.jpg", "mug_hidden.jpg")]
CAMERA = ("--fov", "56.1")
POSITIONS = {"mug": [0.065, 0.035, 0.541], "mug_hidden": [0.109, 0.049, 0.617]}  # metres


def start(*arguments):
    command = [sys.executable, "-m", "spyropose_ros.photos.estimate", *map(str, arguments)]
    return subprocess.Popen(
        [*command, "--model", "models/demo_mug", "--device", "cpu"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs and a video of both, in a folder with a name like any other."""
    folder = tmp_path_factory.mktemp("x") / "Fotos für später 測試"
    folder.mkdir()
    for picture in PICTURES:
        shutil.copy(picture, folder)
    size = Image.open(PICTURES[0]).size
    video = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, size)
    for index in range(20):
        video.write(cv2.imread(str(PICTURES[index % 2])))
    video.release()
    return folder


def test_a_folder_of_photographs_and_a_video(folder, tmp_path):
    output = tmp_path / "Ergebnisse größer"
    process = start(folder, *CAMERA, "--min-score", "0.8", "--every", "19", "--output", output)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == f"4 x mug in 4 images; results are in {output}"
    stems = {"mug": "mug", "mug_hidden": "mug_hidden"}
    stems |= {"clip_000000": "mug", "clip_000019": "mug_hidden"}
    files = {f"{s}{end}" for s in stems for end in (".json", "_overlay.png", "_rotations.png")}
    assert {path.name for path in output.iterdir()} == files
    for stem, shown in stems.items():
        record = json.loads((output / f"{stem}.json").read_text())
        (found,) = record["objects"]
        assert found["class"] == "mug" and found["score"] > 0.8
        assert np.linalg.norm(np.subtract(found["mode"]["translation"], POSITIONS[shown])) < 0.04
        assert record["frame"] == (int(stem[5:]) if "clip" in stem else None)
        assert Image.open(output / f"{stem}_overlay.png").size == (640, 480)
    sharp, ring = (json.loads((output / f"{name}.json").read_text()) for name in POSITIONS)
    assert sharp["objects"][0]["entropy"] < ring["objects"][0]["entropy"] - 1
    assert sharp["objects"][0]["modes"][0]["mass"] > 0.55 > ring["objects"][0]["modes"][0]["mass"]


def test_a_picture_without_the_object_has_an_exit_code_of_its_own(tmp_path):
    Image.new("RGB", (320, 240), (90, 120, 90)).save(tmp_path / "lawn.png")
    process = start(tmp_path / "lawn.png", *CAMERA, "--output", tmp_path / "out")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3
    assert err.startswith("estimate: no mug with a score of 0.5 or more in 1 image: give")
    assert len(err.splitlines()) == 1 and "nothing found" in out


def test_ctrl_c_keeps_what_is_complete(folder, tmp_path):
    box = ("--box", "320", "160", "480", "310")
    process = start(folder / "clip.avi", *CAMERA, *box, "--output", tmp_path)
    while "frame 2" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == f"estimate: interrupted; the results in {tmp_path} are complete\n"
    records = sorted(tmp_path.glob("*.json"))
    assert 3 <= len(records) < 20
    for record in records:
        assert json.loads(record.read_text())["objects"]
    assert not list(tmp_path.glob("*.partial"))


def test_a_reader_that_has_seen_enough_is_no_error(folder, tmp_path):
    box = ("--box", "320", "160", "480", "310")
    process = start(folder / "clip.avi", *CAMERA, *box, "--output", tmp_path)
    assert "position" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == -signal.SIGPIPE
    assert process.stderr.read() == ""
