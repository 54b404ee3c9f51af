"""Every command of the original project: the row of docs/training.md, executed in small."""

import itertools
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import bop_files
import training.data.symsol
import training.train
from training import cli, compare, evaluate, evaluate_multiview
from training.train import parse_args, settings_of, train

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
OBJECTS = {"symsol": "cube", "symsol_ours": "cube", "tless": "1", "hb": "1"}
# What makes a training small; appended to the command.
SMALL = shlex.split(
    "--crop-res 64 --recursion-depth 2 --d-ff 16 --n-pts 4 --batch-size 2 --num-workers 0 "
    "--feature-stride 4 --decoder-channels=[8,8,8] --feature-channels 8 --embed-dim 4 "
    "--backbone resnet18-slim --no-pretrained --min-pixels 1 --validation-images 2 "
    "--accelerator cpu --debug"
)
FUNCTIONS = {
    "evaluate": (evaluate.evaluate, "--limit 2 --depth 2"),
    "evaluate_multiview": (evaluate_multiview.evaluate_multiview, "--limit 2 --beam 16"),
}


def table_commands(name):
    """Our commands of the page's table for a kind such as "train"; brackets are written out."""
    lines = PAGE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| theirs"))
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    found = []
    for line in table:
        for command in re.findall(r"`([^`]+)`", line.split("|")[2]):
            choices = re.search(r"\[([\w, ]+)\]", command)
            for choice in choices[1].split(", ") if choices else [""]:
                found.append(command.replace(choices[0], choice) if choices else command)
    return [command for command in found if command.split()[0] == name]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with data/ in the layouts of SYMSOL, T-LESS and HB."""
    folder = tmp_path_factory.mktemp("workplace")
    for split, n in {"train": 12, "test": 4}.items():
        images = folder / "data" / "symsol" / split / "images"
        images.mkdir(parents=True)
        rng = np.random.default_rng(n)
        for i in range(n):
            noise = rng.integers(0, 256, (224, 224, 3), np.uint8)
            cv2.imwrite(str(images / f"cube_{i:05d}.png"), noise)
        rotations = Rotation.random(24 * n, random_state=n).as_matrix().reshape(n, 24, 3, 3)
        np.savez(images.parent / "rotations.npz", cube=rotations)
    for dataset, test in {"tless": "test_primesense", "hb": "val_primesense"}.items():
        root = folder / "data" / "bop" / dataset
        bop_files.write_models(root, "models_cad")
        for scene in range(4):
            bop_files.write_scene(root / "train_pbr" / f"{scene:06d}", scene, n=2)
        bop_files.write_scene(root / test / "000001", 9, n=4)
    return folder


@pytest.fixture
def there(workplace, monkeypatch):
    """In that folder, with a low-data regime of six images."""
    monkeypatch.chdir(workplace)
    for module in (training.data.symsol, training.train):
        monkeypatch.setattr(module, "LOW_DATA_TRAIN", 4)
        monkeypatch.setattr(module, "LOW_DATA_VALIDATION", 2)
    return workplace


def train_small(command, run_id=None):
    words = [word for word in shlex.split(command)[1:] if word != "…"]
    dataset = words[0]
    words = [OBJECTS[dataset] if word == "OBJECT" else word for word in words]
    meant = settings_of(parse_args(words))
    if "--gpu-idx" in words:
        at = words.index("--gpu-idx")
        assert parse_args(words).gpu_idx == int(words[at + 1])
        del words[at : at + 2]
    run_id = run_id or f"run{len(list(Path().glob('runs/*')))}"
    return meant, train(parse_args([*words, *SMALL, "--run-id", run_id]))


def test_the_table_has_every_command_of_the_original():
    """Eight kinds of training on their data sets, and five ways to evaluate."""
    trainings = table_commands("train")
    assert len(trainings) == 10
    assert {row.split()[1] for row in trainings} == OBJECTS.keys()
    assert len(table_commands("evaluate")) >= 3 and table_commands("evaluate_multiview")
    assert table_commands("compare")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("command", table_commands("train"))
def test_trainings(command, there):
    meant, bundle = train_small(command)
    assert meant.objective.importance_sampling == ("--no-is" not in command)
    assert (bundle / "model.safetensors").is_file()
    assert meant.network.backbone == ("resnet50" if "resnet50" in command else "resnet18")
    assert meant.optim.patience == 0 and not meant.data.low_data_regime


@pytest.mark.timeout(400)
def test_the_low_data_regime_trains(there):
    meant, bundle = train_small(table_commands("train")[0] + " --low-data-regime")
    assert meant.data.low_data_regime and bundle.is_dir()


@pytest.mark.timeout(400)
def test_evaluations(there):
    _, bundle = train_small(table_commands("train")[-1].replace("hb", "tless"), "RUN_ID")
    assert bundle == Path("runs") / "RUN_ID" / "bundle"
    for name, (function, small) in FUNCTIONS.items():
        for command in table_commands(name):
            words = command.replace("DEVICE", "cpu").replace("TOPK", "16").split()[1:]
            cli.run(function, [*words, *small.split()])
    (command,) = table_commands("compare")
    for name, value in {"OTHER_RUN_ID": "RUN_ID", "TOPK": "16", "…": ""}.items():
        command = command.replace(name, value)
    words = shlex.split(command)
    compare.main(words[1:])
    made = {path.name for path in bundle.glob("report*.md")}
    assert {"report_paper.md", "report_paper_regular.md"} <= made
    assert any("views" in name for name in made)
    assert Path("comparison.md").is_file()
