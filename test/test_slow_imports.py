"""What an estimator imports: seconds of every start."""

import json
import subprocess
import sys
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
SLOW = (
    *("transformers", "huggingface_hub", "matplotlib", "trimesh"),
    *("torch._dynamo", "sympy", "viser"),
)
PROGRAM = """
import sys
import numpy
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.detector.detector import Detector
for folder in sys.argv[2:]:
    Estimator.from_pretrained(folder, "cpu", SearchSettings(beam=16)).warm_up()
Detector.from_pretrained(sys.argv[1], "cpu").detect(numpy.zeros((48, 64, 3), numpy.uint8))
import spyropose_ros.core.plots
print(*sys.modules)
"""


def test_the_shipped_models_need_no_slow_imports():
    folders = {}  # one of each family
    for path in MODELS.glob("*/config.json"):
        model = json.loads(path.read_text())["model"]
        folders[model.get("scorer", "keypoints"), model["backbone"]["model_type"]] = path.parent
    assert len(folders) > 1
    command = [sys.executable, "-c", PROGRAM, MODELS / "nanodet_coco", *folders.values()]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(finished.stdout.split()).isdisjoint(SLOW)
