"""The detectors in the estimator's process: which boxes become targets, and what fails."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spyropose_ros.detector.boxes import overlap
from spyropose_ros.detector.bundle import DetectorBundle, DetectorInfo
from spyropose_ros.detector.detector import Detector
from spyropose_ros.detector.network import DetectionNetwork
from spyropose_ros.ros.pipeline.drops import BadInputError, Reason
from spyropose_ros.ros.pipeline.finder import Finder
from spyropose_ros.ros.pipeline.parameters import ParameterError

COCO = str(Path(__file__).parents[1] / "models" / "nanodet_coco")


def models(**classes):
    """What a finder needs of the models: objects by class."""
    objects = dict.fromkeys(classes.values())
    return SimpleNamespace(classes=classes, objects=objects, device=torch.device("cpu"))


@pytest.fixture
def make(tmp_path):
    """Makes detectors that nobody has trained."""

    def save(*classes):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = DetectionNetwork(len(classes)).eval()
        folder = tmp_path / "_".join(classes)
        DetectorBundle(network, DetectorInfo(classes, 64)).save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture
def other(make):
    return make("mug", "tie")


def test_only_objects_with_a_model_become_targets(photograph):
    finder = Finder([COCO], models(tie="my_tie"), lambda text: None)
    (target,) = finder.find(photograph, 0.3)  # of a person and a tie
    assert (target.object_name, target.class_id, target.detection_id) == ("my_tie", "tie", "")
    tie = torch.tensor([228.0, 427, 289, 537])  # by eye
    assert overlap(torch.tensor(target.box), tie) > 0.85
    assert finder.find(photograph, min(1.0, target.score + 0.01)) == []
    assert str(finder) == "nanodet_coco"


def test_many_boxes_of_other_classes_leave_room(tmp_path):
    network = DetectionNetwork(2)  # one that finds both classes in every cell
    for head in network.heads:
        torch.nn.init.zeros_(head.classes.weight)
        head.classes.bias.data[:] = torch.tensor([3.0, 2.0])
        torch.nn.init.zeros_(head.edges.weight)
        head.edges.bias.data.view(4, -1)[:, 1] += 50  # every edge is one stride away
    info = DetectorInfo(("apple", "mug"), 128)
    DetectorBundle(network.eval(), info).save_pretrained(tmp_path)
    finder = Finder([str(tmp_path)], models(mug="mug"), lambda text: None)
    assert len(finder.find(np.zeros((128, 128, 3), np.uint8), 0.3)) > 256


def test_each_class_is_found_by_the_first_detector_that_knows_it(make, photograph):
    first, second = make("mug", "tie"), make("tie", "can")
    known = models(tie="my_tie", can="can", mug="mug")
    finder = Finder([first, second], known, lambda text: None)
    assert finder.classes == {first: {"mug": "mug", "tie": "my_tie"}, second: {"can": "can"}}
    found = {target.class_id for target in finder.find(photograph, 0.0)}
    assert found == {"mug", "tie", "can"}


def test_objects_that_are_never_found_are_said(other):
    said = []
    Finder([other], models(mug="mug", can="can"), said.append)
    assert f"the detector {Path(other).name} does not know can, which is never found" in said


def test_a_detector_of_other_objects_is_refused(other):
    with pytest.raises(ParameterError, match="knows mug, tie but none of the objects can"):
        Finder([other], models(can="can"), lambda text: None)


def test_too_little_memory_costs_one_frame(other, photograph, monkeypatch):
    finder = Finder([other], models(mug="mug"), lambda text: None)

    def fail(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Detector, "detect", fail)
    with pytest.raises(BadInputError, match="the detector does not fit into memory") as dropped:
        finder.find(photograph, 0.3)
    assert dropped.value.reason is Reason.OUT_OF_MEMORY
    monkeypatch.undo()
    assert finder.find(photograph, 0.3) == []


@pytest.mark.parametrize("head", ["classes", "edges"])
def test_output_that_is_not_finite_costs_one_frame(other, photograph, head):
    finder = Finder([other], models(mug="mug"), lambda text: None)
    (detector,) = finder._detectors.values()
    bias = getattr(detector._network.heads[-1], head).bias.data
    right, bias[0] = bias[0].item(), float("nan")
    text = f"{Path(other).name}: the detector's scores are not finite"
    with pytest.raises(BadInputError, match=text) as dropped:
        finder.find(photograph, 0.3)
    assert dropped.value.reason is Reason.BAD_OUTPUT
    bias[0] = right
    assert finder.find(photograph, 0.3) == []
