"""The package builds in an ordinary workspace; the underlay has the types of real installations."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_share_directory

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = (
    ".git",
    ".venv*",
    "build*",
    "install",
    "log",
    "runs",
    "data",
    "demo_output",
    "bench_output",
    "__pycache__",
)

# Hashes of the real types, vision_msgs 4.1.1 and tf2_msgs of Humble to Kilted, computed from their
# original definitions with rosbags. DDS connects types whose hashes are equal.
VISION_MSGS = {
    "Point2D": "eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
    "Pose2D": "b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
    "BoundingBox2D": "008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "ObjectHypothesis": "51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "ObjectHypothesisWithPose": "41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    "Detection2D": "0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "Detection2DArray": "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "BoundingBox3D": "bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698",
    "Detection3D": "ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "Detection3DArray": "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
}
TF2_MSGS = {"TFMessage": "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"}


@pytest.mark.parametrize(
    ("package", "message", "digest"),
    [("vision_msgs", *item) for item in VISION_MSGS.items()]
    + [("tf2_msgs", *item) for item in TF2_MSGS.items()],
)
def test_interface_has_the_type_hash_of_the_real_one(package, message, digest):
    description = Path(get_package_share_directory(package), "msg", f"{message}.json")
    hashes = json.loads(description.read_text())["type_hashes"]
    by_name = {entry["type_name"]: entry["hash_string"] for entry in hashes}
    assert by_name[f"{package}/msg/{message}"] == f"RIHS01_{digest}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace with a copy of the package, as a user has it."""
    path = tmp_path_factory.mktemp("workspace")
    shutil.copytree(ROOT, path / "src/spyropose_ros", ignore=shutil.ignore_patterns(*NOT_SOURCE))
    return path


CHECK_INSTALLED = """
import inspect, spyropose_ros
from spyropose_ros.core import so3_grid
from spyropose_ros.msg import PoseDistribution, PoseDistributionArray
assert "extend_path" in inspect.getsource(spyropose_ros), "an empty __init__.py was installed"
PoseDistributionArray(distributions=[PoseDistribution(weights=[1.0])])
print(*spyropose_ros.__path__)
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("options", [(), ("--symlink-install",)], ids=["copied", "symlinked"])
def test_package_builds_and_runs_from_a_workspace(workspace, options):
    install = workspace / f"install{len(options)}"
    # The build folder is shared, so that the messages are compiled once. Only where ament stages
    # the Python code it cannot go from copies to links.
    shutil.rmtree(workspace / "build/spyropose_ros/ament_cmake_python", ignore_errors=True)
    build = subprocess.run(
        ["colcon", "build", "--install-base", install, *options, "--cmake-args"]
        + [f"-DPython3_EXECUTABLE={sys.executable}"],
        cwd=workspace,
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stdout + build.stderr

    prefix = install / "spyropose_ros"
    for name in ("estimator.launch.py", "demo.launch.py"):
        assert (prefix / "share/spyropose_ros/launch" / name).is_file()
    assert (prefix / "share/spyropose_ros/config/estimator.yaml").is_file()
    assert list((prefix / "share/spyropose_ros/models").glob("*/config.json"))
    for script in (ROOT / "scripts").iterdir():
        assert os.access(prefix / "lib/spyropose_ros" / script.name, os.X_OK)

    run = subprocess.run(
        ["bash", "-c", f"source {install}/local_setup.bash && exec python -c '{CHECK_INSTALLED}'"],
        cwd=workspace,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0].startswith(str(install)), run.stdout
