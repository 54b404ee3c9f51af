"""./run object as a process: from a CAD file to bundle and page, stopped and killed on the way."""

import html
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.files import sha256, write_text
from spyropose_ros.detector.detector import Detector
from spyropose_ros.scenes.meshes import read_mesh_file
from training.config import PRESETS
from training.generate.dataset import generate
from training.generate.settings import GenerationSettings, ViewSettings
from training.object.layout import Layout
from training.object.plan import Settings
from training.object.processes import Failed, run_module
from training.object.report import _confused, _photographs, _presence, _true_rotations
from training.object.work import _Part

ROOT = Path(__file__).parents[2]
PHASES = ["mesh", "data", "detector", "pose", "bundle", "calibrate", "presence"]
PHASES += ["evaluate", "evaluate_detector", "page"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a space and non-ASCII letters, and a coloured angle in it, 60 mm wide."""
    folder = tmp_path_factory.mktemp("object") / "große Teile"
    folder.mkdir()
    base = trimesh.creation.box((60, 40, 12))
    wall = trimesh.creation.box((12, 40, 50)).apply_translation((-24, 0, 25))
    for part, colour in ((base, [250, 120, 0, 255]), (wall, [0, 90, 250, 255])):
        part.visual.face_colors = np.tile(colour, (len(part.faces), 1))
    (base + wall).export(folder / "Träger.ply")
    (folder / "models").symlink_to(ROOT / "models")
    return folder


def start(workplace, *flags):
    """The command, in a session of its own, its output in a pipe."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    call = ["Träger.ply", "--units", "mm", "--name", "angle", *flags]
    return subprocess.Popen(
        [sys.executable, "-m", "training.object", *call],
        cwd=workplace,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, process, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True)
    return [int(pid) for pid in found.stdout.split()]


def works(pid: int) -> bool:
    """Whether a process is there and no zombie, which nobody waits for."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for_end(pids, seconds=60):
    deadline = time.monotonic() + seconds
    while any(map(works, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def done(run) -> dict:
    return json.loads((run / "object.json").read_text())["phases"]


def read_page(run) -> str:
    """The page's text, without pictures."""
    page = (run / "index.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    return html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL))


@pytest.mark.timeout(3600)
def test_stopped_and_killed_on_the_way_it_ends_with_a_model_that_knows_something(workplace):
    run = workplace / "runs" / "angle"
    flags = ["--hours", "0.03", "--distance", "0.3", "0.45"]

    # Ctrl-C in the first training: it is saved, and nothing works on.
    process = start(workplace, *flags)
    log = run / "detector" / "log.txt"
    wait_for(lambda: log.is_file() and "step" in log.read_text(), process)
    trainer = children(process.pid)
    os.kill(process.pid, signal.SIGINT)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 130
    assert output.splitlines()[-1] == (
        "object: stopped; what is done is kept: the same command goes on"
    )
    assert re.search("unchanged by +no rotation", output) and "[1/10] look at the mesh" in output
    assert (run / "detector" / "checkpoints" / "last.ckpt").is_file()
    wait_for_end(trainer)
    assert "interrupted" not in output
    first = done(run)
    assert list(first) == PHASES[:2]

    # kill -9 in the same phase: the training ends too, and has been saved.
    saved = (run / "detector" / "checkpoints" / "last.ckpt").stat().st_mtime
    process = start(workplace, *flags)
    wait_for(lambda: log.read_text().count("resuming from") == 1, process)
    wait_for(lambda: children(process.pid), process)
    (trainer,) = children(process.pid)
    wait_for(lambda: children(trainer), process)  # its loader has begun
    process.kill()
    output = process.communicate(timeout=200)[0]
    wait_for_end([trainer])
    assert "[1/10]" not in output and output.startswith("[3/10] train the detector: about ")
    assert (run / "detector" / "checkpoints" / "last.ckpt").stat().st_mtime > saved

    process = start(workplace, "--hours", "0.5", "--distance", "0.3", "0.45")
    assert "not yet had the 0.03 hours it was begun with" in process.communicate(timeout=100)[0]
    assert process.returncode == 1

    # To the end.
    process = start(workplace, *flags)
    output = process.communicate(timeout=3000)[0]
    assert process.returncode == 0, output
    assert list(done(run)) == PHASES
    assert {name: done(run)[name] for name in first} == first
    assert "finished: open runs/angle/index.html in a browser" in output

    bundle = run / "bundle"
    report = json.loads((bundle / "report.json").read_text())["metrics"]["all"]
    found = json.loads((bundle / "report_detector_rendered.json").read_text())
    assert report["ll_uniform_zero"][0] > LIKELIHOOD
    assert found["ap50"] > AP50
    text = read_page(run)
    for title in (
        "found in the mesh",
        "accurate",
        "probabilities",
        "confuses",
        "well it is found",
        "is there",
    ):
        assert title in text
    assert f"{report['rotation_median_deg']:.1f} deg (median)" in text
    assert f"AP50 {found['ap50']:.2f}" in text
    assert "model:=runs/angle/bundle" in text
    assert "0.03 hours in all" in text and "python -m training.object 'Träger.ply'" in text
    assert "see how good it is:" not in output and "next, calibrate it" not in output

    image = np.zeros((480, 640, 3), np.uint8)
    detector = Detector.from_pretrained(bundle, "cpu")
    assert detector.classes == ("angle",)
    detector.detect(image)
    estimator = Estimator.from_pretrained(bundle, "cpu")
    assert estimator.bundle.presence is not None
    K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
    assert len(estimator.estimate(image, K, np.array([[200.0, 150, 320, 260]]))) == 1
    (mesh,) = read_mesh_file(bundle / "mesh.ply").parts
    np.testing.assert_allclose(mesh.extents, [0.06, 0.04, 0.056], atol=1e-6)

    # Nothing is left to do.
    before = (run / "index.html").stat().st_mtime_ns
    again = start(workplace, *flags)
    output = again.communicate(timeout=200)[0]
    assert again.returncode == 0 and output.startswith("finished: open")
    assert (run / "index.html").stat().st_mtime_ns == before

    # More hours go on from there.
    first = {name: json.loads((bundle / name).read_text()) for name in CONFIGS}
    process = start(workplace, "--hours", "0.05", *flags[2:])
    output = process.communicate(timeout=3000)[0]
    assert process.returncode == 0, output
    assert output.startswith("0.03 of 0.05 hours are done: both models train on from there")
    assert list(done(run)) == PHASES
    for (name, before), run_of in zip(first.items(), ("pose", "detector"), strict=True):
        now = json.loads((bundle / name).read_text())
        assert now["weights_sha256"] != before["weights_sha256"]
        record, earlier = now["record"], now["record"]["started_from"]
        assert earlier["steps"] == before["record"]["steps"] and record["steps"] > 0
        assert record["config"]["start_from"] == f"runs/angle/{run_of}/bundle"
        assert record["config"]["seed"] == 1 and record["calibration"]
    assert {path.name for path in run.iterdir()} >= {"pose_2", "detector_2", "data_2"}
    again = json.loads((bundle / "report.json").read_text())["metrics"]["all"]
    assert again["ll_uniform_zero"][0] > LIKELIHOOD
    assert "... before that" in read_page(run)


CONFIGS = ("config.json", "detector.json")
LIKELIHOOD, AP50 = 0.2, 0.15
"""That two minutes of a core must reach: nats above the uniform box; COCO's."""


IN_A_SMALL_DISK = """
mkdir -p small && mount -t tmpfs -o size=100k none small || exit 2
"$@" --runs small
echo "exit code $?"
cat small/angle/object.json || exit 3
"""


@pytest.mark.timeout(600)
def test_a_full_disk_is_one_line_and_what_is_done_stays(workplace):
    """The mesh is looked at, but the images do not fit."""
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(workplace)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    command = [sys.executable, "-m", "training.object", "Träger.ply", "--units", "mm"]
    command += ["--name", "angle", "--hours", "0.02", "--distance", "0.3", "0.45"]
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", IN_A_SMALL_DISK, "sh", *command],
        cwd=workplace,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    output, _, rest = ended.stdout.partition("exit code ")
    code, _, ledger = rest.partition("\n")
    assert code == "1" and "Traceback" not in output
    last = output.splitlines()[-1]
    assert re.match(r"object: the disk of small/angle/data/.* is full: free some space", last)
    assert list(json.loads(ledger)["phases"]) == ["mesh"]


def test_presence_is_fitted_and_shown_and_none_stops_nothing(
    workplace, tiny_bundle, monkeypatch, caplog
):
    monkeypatch.chdir(workplace)
    layout, cad = Layout(Path("runs") / "untrained"), Path("Träger.ply")
    settings = Settings(sha256(cad), "angle", "mm", 0.02, "none", "uniform", (0.3, 0.45), 0)
    part = _Part(cad, settings, layout)
    layout.root.mkdir(parents=True)
    part._fit_presence()  # there is no bundle
    assert "WARNING: the model will not tell presence" in caplog.text
    assert _presence(layout) == []
    views = ViewSettings("uniform", (0.3, 0.45))
    data = GenerationSettings("angle", images=0, test_images=1, views=views)
    generate(cad, layout.data, data, [], workers=0)
    (true,) = _true_rotations(layout.data).values()
    turned = Rotation.from_rotvec([0, 0, np.pi]).as_matrix()
    for modes, wrong, said in (
        ([0], True, "In no image does a pose stand out"),
        ([0, 1], False, "In 50% of the images no pose stands out"),
        ([1, 1], False, "No leading mode is more than 30 degrees off."),
    ):
        rotation = (true @ turned if wrong else true).tolist()
        rows = [{}, *({"scene": 0, "image": 0, "R": rotation, "n_modes": n} for n in modes)]
        write_text(layout.records, "\n".join(map(json.dumps, rows)) + "\n")
        section = _confused(layout)
        assert section.texts[0].startswith(said) and not section.rows
    config = PRESETS["default"].to_flat()
    tiny_bundle.object = replace(tiny_bundle.object, name="angle")
    tiny_bundle.record = {"dataset": str(layout.data), "object": "1", "config": config}
    tiny_bundle.save_pretrained(layout.bundle)
    part._fit_presence()
    assert ModelBundle.from_pretrained(layout.bundle).presence is not None
    (section,) = _presence(layout)
    assert section.pictures and section.rows[0][1].startswith("AUC 0.")


def test_photographs_that_get_no_labels_stop_nothing(workplace, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(workplace)
    (tmp_path / "rgb").mkdir()
    image = np.full((48, 64, 3), 90, np.uint8)
    pose = {"cam_R_w2c": np.eye(3).ravel().tolist(), "cam_t_w2c": [0, 0, 400]}
    cameras = {n: {"cam_K": [90, 0, 31.5, 0, 90, 23.5, 0, 0, 1]} | pose for n in range(4)}
    for number in cameras:
        cv2.imwrite(str(tmp_path / "rgb" / f"{number:06d}.png"), image)
    write_text(tmp_path / "scene_camera.json", json.dumps(cameras))
    layout, cad = Layout(Path("runs") / "seen"), Path("Träger.ply")
    settings = Settings(
        sha256(cad), "angle", "mm", 0.02, "none", "uniform", (0.3, 0.45), 0, str(tmp_path)
    )
    part = _Part(cad, settings, layout)
    names = [phase.name for phase in part.phases()]
    assert names[3:9] == ["pose", "bundle", "labels", "photos", "photos_bundle", "calibrate"]
    part._label()  # there is no bundle
    assert "WARNING: the model trains on without photographs" in caplog.text
    assert _photographs(layout) == [] and layout.poses == [layout.pose]
    trainings = []
    monkeypatch.setattr("training.object.work.run_module", lambda _, flags: trainings.append(flags))
    monkeypatch.setattr(part, "_knows_box_errors", lambda: False)  # there is no detector
    part._train_on_photos()
    layout.photos.mkdir(parents=True)
    assert layout.poses == [layout.pose, layout.photos]

    views = ViewSettings("uniform", (0.3, 0.45))
    data = GenerationSettings("angle", images=0, test_images=1, views=views)
    generate(cad, layout.data, data, [], workers=0)
    scene = layout.labels / "000000"
    scene.mkdir(parents=True)
    (scene / "rgb").symlink_to(tmp_path / "rgb")
    write_text(scene / "scene_camera.json", json.dumps(cameras))
    truth = {"obj_id": 1, "cam_R_m2c": np.eye(3).ravel().tolist(), "cam_t_m2c": [0, 0, 400]}
    write_text(scene / "scene_gt.json", json.dumps({n: [truth] for n in cameras}))
    found = {"photographs": 4, "detected": 3, "groups": 6, "agreeing": 5}
    write_text(layout.labels_summary, json.dumps(found))
    (section,) = _photographs(layout)
    assert section.rows[1][1] == "5 of 6 groups agree on it"
    shown = cv2.imdecode(np.frombuffer(section.pictures[0].png, np.uint8), cv2.IMREAD_COLOR)
    assert (shown != 90).any()
    part._train_on_photos()
    alone, both = trainings  # the same hours
    assert both == [*alone, "--photographs", str(layout.labels)] and "--hours" in alone


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_ends_without_a_word(number, capfd):
    timer = threading.Timer(1.0, os.kill, (os.getpid(), number))
    timer.start()
    with pytest.raises(Failed) as ended:
        run_module("timeit", ["-n", "1", "-r", "1", "import time; time.sleep(60)"])
    assert ended.value.status == 128 + number
    assert capfd.readouterr() == ("", "")


def test_mistakes_are_answered_in_one_line(workplace):
    process = subprocess.run(
        [sys.executable, "-m", "training.object", "gone.stl"],
        cwd=workplace,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert process.stderr == "object: gone.stl is missing: give the path of a CAD file\n"
