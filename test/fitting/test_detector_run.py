"""A detector's training from renderings to bundle, in tiny form: real Lightning, real files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
import yaml

from spyropose_ros.detector.bundle import CONFIG, WEIGHTS, DetectorBundle, DetectorInfo
from spyropose_ros.detector.detector import Detector
from spyropose_ros.detector.network import DetectionNetwork
from spyropose_ros.scenes.groups import GroupSampler, GroupSettings
from spyropose_ros.scenes.sampler import ObjectModel, SceneSettings
from training.detector.config import DetectorConfig
from training.detector.fit import fit
from training.detector.images import KnownObjects
from training.detector.module import DetectorModule
from training.evaluate_detector import evaluate_detector
from training.train_detector import parse_args, train_detector

MUG = Path(__file__).parents[2] / "models" / "demo_mug"
IDENTITY = {"source": "rendered", "objects": ["cube"], "command": "python -m training.x"}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A detector of other objects that is not trained: its folder."""
    directory = tmp_path_factory.mktemp("start")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        old = DetectorBundle(DetectionNetwork(3), DetectorInfo(("a", "b", "c")), {"seed": 5})
        old.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def known():
    cube = trimesh.creation.box((0.1, 0.1, 0.1))
    model = ObjectModel("cube", cube, None, np.zeros(3), 0.173, [], True, np.eye(3)[None])
    settings = GroupSettings(SceneSettings(sprites=12), side=64)
    return KnownObjects(("cube",), GroupSampler([model], settings))


def run_tiny(known, start, directory):
    config = DetectorConfig(
        max_steps=4,
        batch_size=2,
        steps_per_epoch=2,
        side=64,
        start_from=str(start),
        num_workers=0,
        validation_images=2,
        calibration_images=2,
    )
    return fit(known, config, directory, identity=IDENTITY, accelerator="cpu", logger="none")


@pytest.fixture(scope="module")
def run(known, start, tmp_path_factory):
    """An uninterrupted tiny training: its folder."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    run_tiny(known, start, directory)
    return directory


def test_a_run_leaves_a_detector_and_its_record(run, start):
    bundle = DetectorBundle.from_pretrained(run / "bundle")
    assert bundle.info.classes == ("cube",) and bundle.info.side == 64
    record = bundle.record
    assert (record["steps"], record["objects"], record["config"]["max_steps"]) == (4, ["cube"], 4)
    assert record["calibration"]["images"] == 2 and "box_errors" in record["calibration"]
    before = DetectorBundle.from_pretrained(start).network.state_dict()
    after = bundle.network.state_dict()
    assert record["started_from"] == {"seed": 5}
    changed = [not torch.equal(before[n], w) for n, w in after.items() if ".classes." not in n]
    assert np.mean(changed) > 0.9
    Detector(bundle, "cpu").detect(np.zeros((48, 64, 3), np.uint8))
    last = (run / "log.txt").read_text().splitlines()[-1]
    assert last.endswith(f"python -m training.evaluate_detector {run}")


def test_an_interrupted_run_ends_with_the_same_weights(run, known, start, tmp_path, monkeypatch):
    """Stopped in the middle of the second of two epochs; augmentation is on."""
    step = DetectorModule.training_step

    def stop_at_the_fourth_step(self, batch, batch_idx):
        if self.global_step == 3:
            raise OSError("the power is gone")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(DetectorModule, "training_step", stop_at_the_fourth_step)
        with pytest.raises(OSError, match="the power is gone"):
            run_tiny(known, start, tmp_path)
    assert not (tmp_path / "bundle").exists()
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    run_tiny(known, start, tmp_path)
    whole, resumed = (path / "bundle" / WEIGHTS for path in (run, tmp_path))
    assert whole.read_bytes() == resumed.read_bytes()


def test_an_existing_run_keeps_its_settings(run, tmp_path, capsys):
    call = ["rendered", "cube", "--runs", str(run.parent), "--run-id", "whole"]
    args = parse_args(call)
    assert (args.max_steps, args.side, args.batch_size) == (4, 64, 2)
    assert train_detector(args) == run / "bundle"  # finished: nothing is loaded or trained
    with pytest.raises(SystemExit):
        parse_args([*call, "--side", "96"])
    assert "side 64, not 96" in capsys.readouterr().err
    assert yaml.safe_load((run / "run.yaml").read_text())["objects"] == ["cube"]


def test_hours_end_a_training_instead_of_steps():
    args = parse_args(["lmo", "duck", "cat", "--hours", "0.5"])
    assert (args.max_steps, args.hours, args.objects) == (0, 0.5, ["duck", "cat"])
    assert args.run_id.startswith("detector-lmo-duck-cat-")
    optim = replace(DetectorConfig(), max_steps=0, hours=0.5).optim
    assert optim.warmup_share > 0 and optim.gradient_clip > 0


def test_a_detector_of_the_hub_is_evaluated_and_stays_as_it_is(tmp_path, monkeypatch):
    """The hub is a folder here, as where it was downloaded before."""
    config = MUG / CONFIG
    before = config.read_bytes()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(MUG))
    monkeypatch.chdir(tmp_path)
    report = evaluate_detector("owner/mug", images=2, output="reports", device="cpu")
    assert report["images"] == 2 and config.read_bytes() == before
    names = ["report_detector_rendered.json", "report_detector_rendered.md"]
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == names
