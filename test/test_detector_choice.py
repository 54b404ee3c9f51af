"""Which detectors run in the estimator's process, and which of their classes are which objects."""

import json
import shutil
import subprocess
import sys

import pytest

from model_tools import KEYPOINTS, TINY, untrained_model
from spyropose_ros.core.bundle import ModelBundle, ObjectInfo
from spyropose_ros.detector.bundle import CONFIG, WEIGHTS, DetectorBundle, DetectorInfo
from spyropose_ros.detector.network import DetectionNetwork
from spyropose_ros.ros.pipeline.detectors import TOPIC, choose_detectors, share_classes
from spyropose_ros.ros.pipeline.parameters import (
    DetectorParameters,
    ParameterError,
    Parameters,
)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Saves bundles of an object, of a detector of some classes, or of both."""
    model, network = untrained_model(), DetectionNetwork(2).eval()
    root = tmp_path_factory.mktemp("models")
    saved = {}

    def save(name=None, classes=None):
        key = name, classes
        if key in saved:
            return saved[key]
        folder = root / str(len(saved))
        if name:
            info = ObjectInfo(name, [0.0, 0.0, 0.0], 0.12, 0.9, 0.05, KEYPOINTS.tolist())
            ModelBundle(model, info, [1.0] * TINY.depth).save_pretrained(folder)
        if classes:
            DetectorBundle(network, DetectorInfo(classes, 64)).save_pretrained(folder)
        return saved.setdefault(key, str(folder))

    return save


def choose(*objects, detector="", remapped=(), **others):
    parameters = Parameters(objects=objects, detector=DetectorParameters(bundle=detector), **others)
    return choose_detectors(parameters, set(remapped).__contains__)


def test_without_any_the_boxes_come_from_the_topic(make):
    assert choose(make("mug")) == ()


def test_the_detector_in_the_bundle_of_the_object_is_used(make):
    both = make("mug", ("mug", "can"))
    assert choose(both) == (both,)


def test_a_detector_given_by_name_is_used_instead(make):
    both, other = make("mug", ("mug", "can")), make(None, ("can", "mug"))
    assert choose(both, detector=other) == choose(make("mug"), detector=other) == (other,)


def test_a_topic_given_by_name_wins(make):
    both = make("mug", ("mug", "can"))
    for given in ({"remapped": ["detections"]}, {"detector": TOPIC}):
        assert choose(both, **given) == ()
    assert choose(both, detector=both, remapped=["detections"]) == ()
    rig = {"cameras": ("left", "right"), "fixed_frame": "map"}
    assert choose(both, remapped=["right/detections"], **rig) == ()
    assert choose(both, remapped=["detections"], **rig) == (both,)


def test_own_detectors_are_used_only_if_they_know_all_objects(make):
    mug, can = make("mug", ("mug", "cup")), make("can", ("can", "tin"))
    assert choose(mug, can) == (mug, can)
    assert choose(mug, make("can")) == ()
    assert choose(make("can"), make("mug", ("mug", "can"))) == (make("mug", ("mug", "can")),)
    assert choose(mug, make("cup")) == (mug,)
    assert choose(mug, make("can"), class_map=("cup=can",)) == (mug,)
    assert choose(make("duck", ("mug", "can"))) == ()


def test_a_bundle_on_the_hub_is_not_looked_into(make):
    assert choose(make("mug", ("mug", "can")), "somebody/some-model") == ()
    assert choose("somebody/some-model", detector="somebody/it") == ("somebody/it",)
    assert choose("somebody/some-model", detector=make(None, ("a", "b")))


def test_a_detector_of_other_objects_is_refused_with_the_remedy(make):
    other = make(None, ("cup", "tin"))
    with pytest.raises(ParameterError, match=r"'detector'.*knows cup, tin but none of.*mug") as no:
        choose(make("mug"), detector=other)
    assert "class_map: ['cup=mug']" in str(no.value)
    assert choose(make("mug"), detector=other, class_map=("cup=mug",)) == (other,)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda folder: cut(folder / WEIGHTS), "sha256 differs"),
        (lambda folder: cut(folder / CONFIG), "not valid JSON"),
        (lambda folder: (folder / CONFIG).write_text(json.dumps({"format": 1})), "of format 1"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_damaged_detector_is_refused_by_name(make, tmp_path, change, text, own):
    folder = shutil.copytree(make("mug", ("mug", "can")), tmp_path / "damaged")
    change(folder)
    with pytest.raises(ParameterError, match=text) as refused:
        choose(str(folder)) if own else choose(make("mug"), detector=str(folder))
    parameter = "objects" if own else "detector"
    assert f"parameter '{parameter}'" in str(refused.value) and str(folder) in str(refused.value)


def test_what_is_no_detector_is_refused_by_name(make, tmp_path):
    with pytest.raises(ParameterError, match="'detector': .* holds no detector"):
        choose(make("mug"), detector=make("mug"))
    with pytest.raises(ParameterError, match="'detector': no model bundle at .*nowhere'"):
        choose(make("mug"), detector=str(tmp_path / "nowhere"))


def test_the_first_detector_that_knows_a_class_finds_it():
    known = {"a": ["mug", "tin"], "b": ["can", "mug"], "c": ["mug"]}
    shares = share_classes(known, {"mug": "mug", "41": "mug", "can": "can"})
    assert shares == {"a": {"mug": "mug"}, "b": {"can": "can"}, "c": {}}


PROGRAM = """
import sys
from spyropose_ros.ros.pipeline.detectors import choose_detectors
from spyropose_ros.ros.pipeline.parameters import Parameters
print(len(choose_detectors(Parameters(objects=(sys.argv[1],)))), "torch" in sys.modules)
"""


def test_a_bad_detector_is_found_before_pytorch_is_imported(make):
    command = [sys.executable, "-c", PROGRAM, make("mug", ("mug", "can"))]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["1", "False"]
