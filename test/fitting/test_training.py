"""Training from data to bundle, in tiny form: real renderings, real Lightning, real files."""

import csv
import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from spyropose_ros.core import camera, se3_grid
from spyropose_ros.core.bundle import WEIGHTS, Feature, ModelBundle
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.scenes.renderer import Renderer
from training import runs
from training.data.shapes import ShapesSource
from training.data.source import CropSettings
from training.fitting.assembly import assemble
from training.fitting.checkpoints import Interrupted
from training.fitting.fit import fit
from training.fitting.module import PoseModule
from training.fitting.objective import BatchRandom, ObjectiveConfig, TrainingGrid, level_losses
from training.train import parse_args, train
from training_tools import TINY, mug_source, tiny

ROOT = Path(__file__).parents[2]
IDENTITY = {"dataset": "rendered", "object": "mug", "command": "python -m training.train"}


def run_tiny(directory, **changes):
    return fit(
        mug_source(), tiny(**changes), directory, identity=IDENTITY, accelerator="cpu", logger="csv"
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An uninterrupted tiny training: its folder."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    run_tiny(directory)
    return directory


def test_a_run_leaves_what_it_says(run):
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert (run / "csv" / "version_0" / "metrics.csv").is_file()
    bundle = ModelBundle.from_pretrained(run / "bundle")
    assert bundle.object.name == "mug" and bundle.mesh_path is not None
    record = bundle.record
    assert (record["steps"], record["dataset"], record["object"]) == (6, "rendered", "mug")
    assert record["config"] == json.loads(json.dumps(TINY.to_flat()))
    assert {"package_version", "git_commit", "command", "hardware", "seconds"} <= record.keys()
    *_, calibrate, evaluate = (run / "log.txt").read_text().splitlines()
    assert calibrate.endswith(f"python -m training.calibrate {run}")
    assert evaluate.endswith(f"python -m training.evaluate {run}")


@pytest.mark.parametrize("name, kept", [("mug", True), ("cup", False)])
def test_named_features_of_the_same_object_are_kept(run, tmp_path, name, kept):
    start = ModelBundle.from_pretrained(run / "bundle")
    features = {"handle": Feature([0.07, 0.0, 0.05], [1.0, 0.0, 0.0])}
    start.object = dataclasses.replace(start.object, name=name)
    dataclasses.replace(start, features=features).save_pretrained(tmp_path / "start")
    run_tiny(tmp_path / "on", start_from=str(tmp_path / "start"), max_steps=2)
    made = ModelBundle.from_pretrained(tmp_path / "on" / "bundle")
    assert made.features == (features if kept else {})
    assert made.record["started_from"] == start.record


def test_the_next_command_is_as_it_is_typed(monkeypatch):
    assert runs.next_command("evaluate", Path("runs/my part")).endswith(
        " -m training.evaluate 'my part'"
    )
    assert runs.next_command("evaluate", Path("/far/part")).endswith(" /far/part")
    monkeypatch.setattr(sys, "prefix", str(ROOT / ".venv"))  # what ./run makes
    assert runs.next_command("x", Path("p")).startswith("./run exec python -m")
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert runs.next_command("x", Path("p")).startswith("python -m")


def test_an_interrupted_run_ends_with_the_same_weights(run, tmp_path, monkeypatch):
    """Stopped in the middle of the second of three epochs; augmentation and dropout are on."""
    step = PoseModule.training_step

    def stop_at_the_fourth_step(self, batch, batch_idx):
        if self.global_step == 3:
            raise OSError("the power is gone")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(PoseModule, "training_step", stop_at_the_fourth_step)
        with pytest.raises(OSError, match="the power is gone"):
            run_tiny(tmp_path)
    assert not (tmp_path / "bundle").exists()
    run_tiny(tmp_path)
    whole, resumed = (ModelBundle.from_pretrained(path / "bundle") for path in (run, tmp_path))
    assert resumed.record["steps"] == 6
    assert (run / "bundle" / WEIGHTS).read_bytes() == (tmp_path / "bundle" / WEIGHTS).read_bytes()
    fresh = assemble(mug_source(), TINY).module.model
    changed = [
        not torch.equal(a, b)
        for a, b in zip(whole.model.parameters(), fresh.parameters(), strict=True)
    ]
    assert np.mean(changed) > 0.9  # and the training did something


def weights(directory):
    return (directory / "bundle" / WEIGHTS).read_bytes()


def validations(directory):
    """Steps and last levels of all validations, those of all starts together."""
    found = []
    for log in sorted(directory.glob("csv/version_*/metrics.csv")):
        with log.open() as file:
            rows = [row for row in csv.DictReader(file) if row.get("val/ll_gain")]
        found += [(int(row["step"]), row["val/ll_gain"]) for row in rows]
    return found


STEADY = {"steps_per_epoch": 3, "ema": 0.5, "patience": 9}


@pytest.fixture(scope="module")
def steady_run(tmp_path_factory):
    """Two epochs of three steps, with an average of the weights and early stopping: its folder."""
    directory = tmp_path_factory.mktemp("steady")
    run_tiny(directory, **STEADY)
    return directory


@pytest.mark.parametrize("step", [1, 2, 4], ids=["first epoch", "end of an epoch", "last epoch"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    number, step, steady_run, tmp_path, monkeypatch
):
    """It finishes its step, and the validation that follows; weights and validations are equal."""
    train_one = PoseModule.training_step

    def told_to_stop(self, batch, batch_idx):
        if self.global_step == step:
            os.kill(os.getpid(), number)
        return train_one(self, batch, batch_idx)

    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        patched.setattr(PoseModule, "training_step", told_to_stop)
        with pytest.raises(Interrupted, match=f"{number.name} after {step + 1} steps"):
            run_tiny(tmp_path, **STEADY)
    assert signal.getsignal(number) == before
    text = (tmp_path / "log.txt").read_text()
    assert f"to resume, add --run-id {tmp_path.name}" in text
    run_tiny(tmp_path, **STEADY)
    assert weights(tmp_path) == weights(steady_run)
    assert validations(tmp_path) == validations(steady_run) and len(validations(tmp_path)) == 2
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }


def test_the_record_says_the_best_of_how_many_steps_it_holds(steady_run):
    best = torch.load(steady_run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    record = ModelBundle.from_pretrained(steady_run / "bundle").record
    assert (record["steps"], record["steps_done"]) == (best, 6)
    assert runs.steps_of(record | {"steps": 3}) == "3 steps (the best of 6)"
    assert runs.steps_of({"steps": 6}) == "6 steps"


KILLED = """
import os, signal, sys
from pathlib import Path
from test_training import run_tiny
from training.fitting import checkpoints
from training.fitting.module import PoseModule

step = PoseModule.training_step

def die(self, batch, batch_idx):
    if self.global_step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

PoseModule.training_step = die
checkpoints.INTERVAL = 0.0
run_tiny(Path(sys.argv[1]))
"""


def test_a_kill_costs_what_came_after_the_last_checkpoint(run, tmp_path):
    """In the middle of the second epoch, with a checkpoint after every step."""
    call = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(call, env=environment(), cwd=Path(__file__).parent, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 3
    run_tiny(tmp_path)
    assert weights(tmp_path) == weights(run)
    assert validations(tmp_path) == validations(run)


def test_hours_end_a_training_with_the_rate_at_zero(tmp_path):
    """Whatever the number of steps; a resumed run goes on counting."""
    hours = {"max_steps": 0, "hours": 4 / 3600, "warmup_share": 0.25, "steps_per_epoch": 1000}
    run_tiny(tmp_path, **hours)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0
    seconds = state["callbacks"]["TrainingClock"]
    assert 4 <= seconds["core"] < 8
    record = ModelBundle.from_pretrained(tmp_path / "bundle").record
    assert record["steps"] == state["global_step"] > 6
    assert record["core_hours"] == pytest.approx(seconds["core"] / 3600, abs=2e-4)


def test_hours_are_counted_over_restarts(tmp_path, monkeypatch):
    hours = {"max_steps": 0, "hours": 4 / 3600, "steps_per_epoch": 1000}
    train_one = PoseModule.training_step

    def told_to_stop(self, batch, batch_idx):
        if self.clock.seconds.core > 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_one(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(PoseModule, "training_step", told_to_stop)
        with pytest.raises(Interrupted):
            run_tiny(tmp_path, **hours)
    last = tmp_path / "checkpoints" / "last.ckpt"
    first = torch.load(last, weights_only=True)
    run_tiny(tmp_path, **hours)
    second = torch.load(last, weights_only=True)
    assert 0 < first["global_step"] < second["global_step"]
    assert 2 < first["callbacks"]["TrainingClock"]["core"] < 4
    assert 4 <= second["callbacks"]["TrainingClock"]["core"] < 8
    (tmp_path / "bundle" / "config.json").unlink()  # killed before the export
    run_tiny(tmp_path, **hours)
    record = ModelBundle.from_pretrained(tmp_path / "bundle").record
    assert record["steps"] == second["global_step"]


def command(*flags):
    return [sys.executable, "-m", "training.train", "shapes", "cube", *map(str, flags)]


SHAPE_FLAGS = (
    *("--kpts", "none", "--backbone", "resnet18-slim", "--crop-res", 32, "--recursion-depth", 2),
    *("--d-ff", 16, "--n-samples", 8, "--batch-size", 4, "--num-workers", 1, "--batchnorm"),
    *("--validation-images", 4, "--steps-per-epoch", 2, "--warmup-steps", 2),
    *("--accelerator", "cpu", "--logger", "none"),
)


def environment():
    path = os.pathsep.join([str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_by_its_id(tmp_path, capsys):
    """kill -9 after the first checkpoint; then the same id alone is enough."""
    call = command(*SHAPE_FLAGS, "--max-steps", 400, "--runs", tmp_path, "--run-id", "cube")
    process = subprocess.Popen(
        call, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=2
    )
    last = tmp_path / "cube" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 400
    while not last.is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cube" / "bundle").exists()
    steps = torch.load(last, weights_only=True)["global_step"]
    assert 0 < steps < 400
    settings = tmp_path / "cube" / "config.yaml"
    stored = yaml.safe_load(settings.read_text())
    assert stored["max_steps"] == 400
    identity = yaml.safe_load((tmp_path / "cube" / "run.yaml").read_text())
    started = identity.pop("command")
    assert started.startswith("python -m training.train shapes cube --kpts none")
    names = {"dataset": "shapes", "object": "cube", "preset": "default"}
    assert identity == names | {"devices": 1, "num_nodes": 1}
    again = ["shapes", "cube", "--runs", str(tmp_path), "--run-id", "cube"]
    with pytest.raises(SystemExit):
        train(parse_args([*again, "--max-steps", "9"]))
    assert "max_steps 400, not 9" in capsys.readouterr().err
    settings.write_text(yaml.safe_dump(stored | {"max_steps": steps + 4}))  # enough waiting
    path = train(parse_args([*again, "--accelerator", "cpu", "--logger", "none"]))
    assert path == tmp_path / "cube" / "bundle"
    bundle = ModelBundle.from_pretrained(path)
    assert bundle.record["steps"] == steps + 4
    assert bundle.record["command"] == started
    assert "resuming from" in (tmp_path / "cube" / "log.txt").read_text()


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    """Its loader processes hear it too. The screen shows nothing but the training's own lines."""
    process = subprocess.Popen(
        command(*SHAPE_FLAGS, "--hours", 1, "--runs", tmp_path, "--run-id", "cube"),
        env=environment(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = tmp_path / "cube" / "log.txt"
    deadline = time.monotonic() + 200
    while not (log.is_file() and "validation" in log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    first, *lines, last = process.communicate()[0].splitlines()
    assert process.returncode == 130
    assert first == "run cube: cube of shapes"
    assert all(re.match(r"step \d+(, \d|: validation LL )", line) for line in lines)
    assert re.match(r"stopped by SIGINT after \d+ steps; to resume, add --run-id cube", last)
    assert log.read_text().splitlines() == [*lines, last]
    last = tmp_path / "cube" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] > 0


def test_a_debug_run_does_not_count(tmp_path):
    """The same id trains afterwards, and ends with other weights."""
    place = ("--runs", tmp_path, "--run-id", "x")
    flags = [str(f) for f in ("shapes", "cube", *SHAPE_FLAGS, "--max-steps", 7, *place)]
    bundle = train(parse_args([*flags, "--debug"]))
    first = ModelBundle.from_pretrained(bundle)
    assert train(parse_args(flags)) == bundle
    second = ModelBundle.from_pretrained(bundle)
    assert (first.record["steps"], second.record["steps"]) == (5, 7)
    assert (tmp_path / "x" / "checkpoints" / "last.ckpt").is_file()  # shorter than an epoch


def test_low_data_is_symsols(tmp_path):
    with pytest.raises(ValueError, match="--low-data-regime is for symsol, not for shapes"):
        train(parse_args(["shapes", "cube", "--low-data-regime", "--runs", str(tmp_path)]))


def test_what_is_missing_is_said_in_one_line(tmp_path):
    call = [sys.executable, "-m", "training.train", "tless", "1", "--data-root", str(tmp_path)]
    failed = subprocess.run(call, env=environment(), capture_output=True, text=True, cwd=tmp_path)
    assert failed.returncode != 0
    lines = failed.stderr.strip().splitlines()
    assert lines[-1].startswith("train: ") and "tless" in lines[-1]
    assert "Traceback" not in failed.stderr


# --- learning ---

VARIANTS = {
    "ours": {"keypoints": "fps", "n_samples": 32},
    "without importance sampling": {
        "keypoints": "fps",
        "n_samples": 256,
        "importance_sampling": False,
    },
    "box keypoints": {"keypoints": "box", "n_samples": 32},
    "without keypoints": {"keypoints": "none", "n_samples": 32, "batchnorm": True},
    "without keypoints and importance sampling": {
        "keypoints": "none",
        "n_samples": 256,
        "batchnorm": True,
        "importance_sampling": False,
    },
}
# Nats of log-likelihood over the untrained model's at level 1. Without keypoints, which is the
# slowest to learn, 1.6 to 2.2 over six seeds.
MARGIN = 1.0


@pytest.mark.timeout(400)
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_hundred_steps_improve_every_variant(variant, tmp_path):
    """On the cone, at 32 px."""
    source = ShapesSource("cone", 32)
    settings = tiny(
        **{"max_steps": 200, "steps_per_epoch": 200, "batch_size": 12, "warmup_steps": 20},
        **{"validation_images": 24, "lr": 3e-3, "hidden_dim": 32, "hidden_layers": 2},
        **{"dropout": 0.0, "point_dropout": 0.0, "n_keypoints": 12, "embed_dim": 8},
        **VARIANTS[variant],
    )
    bundle = fit(source, settings, tmp_path, identity={}, accelerator="cpu", logger="none")
    trained = ModelBundle.from_pretrained(bundle)
    untrained = assemble(source, settings).module.model.eval()
    assert gain(source, trained.model) > gain(source, untrained) + MARGIN


@torch.no_grad()
def gain(source, model, n=40):
    """Mean log-likelihood over the uniform distribution on held-out images, last level."""
    config = model.config
    crop = CropSettings(config.crop_resolution, 8, 1.3, None, 0.0, False)
    items = source.validation_items(crop)
    batch = torch.utils.data.default_collate([items.item(i, None) for i in range(n)])
    features = model.features(batch["crop"].float() / 255)

    def score(level, rotations, translations):
        return model.logits(features, batch["K_crop"], level, rotations, translations)

    box = TranslationBox.known(batch["estimate"])
    pyramid = search(score, box, config.depth, beam=256)
    ll = pyramid.log_density_per_level(batch["rotation"][:, None], batch["translation"][:, None])
    return float(ll[:, 0, -1].mean() - se3_grid.uniform_log_density(box)[0])


@pytest.mark.timeout(600)  # 30 s of one core
def test_overfitting_one_image_approaches_the_ceiling():
    """A picture of the mug, its pose known: the true cell of 2.4 million gets most of the mass."""
    torch.manual_seed(0)
    source = mug_source()
    mug = source.model
    depth = 3
    config = tiny(
        **{"depth": depth, "crop_resolution": 64, "feature_stride": 2, "hidden_dim": 64},
        **{"embed_dim": 8, "dropout": 0.0, "point_dropout": 0.0},
    )
    assembly = assemble(source, config)
    info, model = assembly.info, assembly.module.model.train()
    K = np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]])
    rotation = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    translation = np.array([0.02, -0.01, 0.6])
    center = torch.from_numpy(rotation @ mug.center + translation).float()[None]
    image = Renderer(mug.mesh).render(rotation, translation, K, 640, 480).normals
    image = torch.from_numpy(np.uint8((image * 0.5 + 0.5) * 255)).permute(2, 0, 1)
    estimate = center + torch.tensor([[0.005, -0.004, 0.02]])
    intrinsics = torch.from_numpy(K).float()
    K_crop = camera.crop_intrinsics(estimate, info.diameter, intrinsics, 64)
    crop = camera.crop_image(image, intrinsics, K_crop, 64)
    R = torch.from_numpy(rotation).float()[None]

    steps, copies, random = 500, 2, BatchRandom(torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps, pct_start=0.1)
    objective = ObjectiveConfig(n_samples=8, rotation_offset=False, translation_offset=False)

    def scorer(features, n):
        def score(level, rotations, translations):
            maps = features.expand(n, -1, -1, -1)
            return model.logits(maps, K_crop.expand(n, 3, 3), level, rotations, translations)

        return score

    def log_density():
        """Of the truth, over that of the uniform distribution."""
        box = TranslationBox.from_view(estimate, info.diameter)
        with torch.no_grad():
            pyramid = search(scorer(model.features(crop), 1), box, depth, beam=256)
        ll = pyramid.log_density_per_level(R[None], center[None])[0, 0, -1]
        return float(ll - se3_grid.uniform_log_density(box))

    before = log_density()
    for _ in range(steps):
        grid = TrainingGrid.draw(estimate.expand(copies, 3), info.diameter, objective, random)
        truth = R.expand(copies, 3, 3), center.expand(copies, 3)
        features = model.features(crop)
        losses = level_losses(scorer(features, copies), grid, *truth, depth, objective, random)
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    after = log_density()
    ceiling = math.log(576 * 64**2)
    assert before < 2 and after > 0.8 * ceiling
