"""Execute every command of docs/training.md's table in small: `python -m benchmarks.commands`.

The reports are kept in docs/reports. The images stand in for data sets that may not be at hand, in
their public layouts: renderings of the cube of `shapes` for SYMSOL, of the demo's mug for T-LESS
and HB. The flags of the table stay; what makes the training small is appended. So the numbers show
that everything works together, and nothing about the paper's accuracy.
"""

import itertools
import logging
import os
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from training import cli, compare, evaluate, evaluate_multiview, provenance
from training.config import LOW_DATA_TRAIN, LOW_DATA_VALIDATION
from training.generate.settings import GenerationSettings, ViewSettings
from training.train import parse_args, train

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "training.md"
MESH = ROOT / "models" / "demo_mug" / "mesh.ply"
OBJECTS = {"symsol": "cube", "symsol_ours": "cube", "tless": "1", "hb": "1"}
"""What OBJECT of the table is here."""

_SMALL = (
    "--crop-res 64 --recursion-depth 5 --d-ff 64 --feature-stride 4 --decoder-channels=[128,64] "
    "--feature-channels 32 --embed-dim 16 --lr 0.001 --warmup-steps 20 --validation-images 32 "
    "--steps-per-epoch 300 --min-pixels 64 --num-workers 1 --accelerator cpu --logger none"
)
_DULL = {"--preset", "paper", "--kpts", "--max-steps", "100_000"}
_EVALUATIONS = {
    "evaluate": evaluate.evaluate,
    "evaluate_multiview": evaluate_multiview.evaluate_multiview,
}
_EVALUATED = 30  # images
_PIXELS = 64
_SYMSOL_IMAGES = {"train": LOW_DATA_TRAIN + LOW_DATA_VALIDATION, "test": 100}
_BOP_IMAGES = {"images": 400, "test_images": 40}
_BOP_SPLITS = {"tless": "test_primesense", "hb": "val_primesense"}


def table_commands(name: str) -> list[str]:
    """Our commands in the table of a kind, such as "train"; brackets are written out."""
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


def commands(
    output: str = "docs/reports", steps: int = 300, workplace: str = "runs/commands"
) -> None:
    """Execute the table.

    Args:
        output: folder of the kept reports.
        steps: of every training.
        workplace: folder of data and runs; what is finished there is not repeated.
    """
    kept = Path(output).resolve()
    kept.mkdir(parents=True, exist_ok=True)
    Path(workplace).mkdir(parents=True, exist_ok=True)
    os.chdir(workplace)
    _make_symsol(Path("data/symsol"))
    _make_bop(Path("data/bop"))
    lines = _head(steps)
    trainings = table_commands("train")
    trainings += [f"{command} --low-data-regime" for command in trainings[:2]]
    runs: dict[str, list[str]] = {}  # ids by data set
    for command in trainings:
        words = _words(command)
        run_id = "-".join(word.strip("-").replace("_", "") for word in words if word not in _DULL)
        schedule = ["--max-steps", str(steps), "--run-id", run_id]
        train(parse_args([*words, *_SMALL.split(), *schedule]))
        report = evaluate.evaluate(run_id, paper_protocol=True, limit=_EVALUATED)
        directory = Path("runs") / run_id / "bundle"
        lines.append(_keep(directory, kept / run_id, f"train {' '.join(words)}", report))
        runs.setdefault(words[0], []).append(run_id)
    last = runs["tless"][-1]  # Ours
    for name, function in _EVALUATIONS.items():
        for command in table_commands(name):
            words = _words(command.replace("RUN_ID", last).replace("TOPK", "64"))
            slug = "-".join([name, *(word.strip("-") for word in words[1:])])
            directory = Path("runs") / last / slug
            report = cli.run(
                function, [*words, "--limit", str(_EVALUATED // 2), "--output", str(directory)]
            )
            lines.append(_keep(directory, kept / slug, f"{name} {' '.join(words)}", report))
    (kept / "README.md").write_text("\n".join(lines) + "\n")
    reports = [f"runs/{run_id}/bundle/report_paper.json" for run_id in runs["symsol_ours"]]
    compare.compare(reports, str(kept / "compare"))


def _words(command: str) -> list[str]:
    """Arguments of a command of the table, on the CPU."""
    words = [word for word in shlex.split(command)[1:] if word != "…"]
    if words[1] == "OBJECT":
        words[1] = OBJECTS[words[0]]
    for flag in {"--gpu-idx", "--output"} & set(words):  # there is no GPU, and a place of our own
        at = words.index(flag)
        del words[at : at + 2]
    return ["cpu" if word == "DEVICE" else word for word in words]


def _keep(directory: Path, target: Path, command: str, report: dict) -> str:
    """Copy a report; its row of the index."""
    (path,) = directory.glob("report*.md")
    text = path.read_text().partition("![figures]")[0]  # pictures are not kept
    target.with_name(f"{target.name}.md").write_text(text.rstrip() + "\n")
    name, summary = next(iter(report["metrics"].items()))
    mean, error = summary["ll_uniform_zero"]
    rest = f"{summary['images']} images ({name}) | {mean:.2f} ± {error:.2f}"
    return f"| `{command}` | {rest} | [report]({target.name}.md) |"


def _head(steps: int) -> list[str]:
    """What the index begins with."""
    return [
        "# The table's commands, executed in small",
        "",
        f"`python -m benchmarks.commands --steps {steps}` on {provenance.hardware('cpu')}, commit "
        f"{provenance.git_commit()}: every training with `{_SMALL}`, then `evaluate RUN_ID "
        f"--paper-protocol --limit {_EVALUATED}`. Renderings stand in for the data sets: 64 px "
        "images of a cube for SYMSOL, of the demo's mug for T-LESS and HB.",
        "",
        "| command | evaluated on | LL over uniform, nats | |",
        "|---|---|---|---|",
    ]


def _make_symsol(root: Path) -> None:
    """The cube in SYMSOL's layout."""
    from training.data.shape_images import ShapeImages, uniform_rotations
    from training.data.shape_models import make_shape

    shape = make_shape("cube")
    images = ShapeImages(shape, _PIXELS)
    for seed, (split, n) in enumerate(_SYMSOL_IMAGES.items()):
        folder = root / split / "images"
        if (folder.parent / "rotations.npz").is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        rotations = uniform_rotations(n, seed)
        for i, rotation in enumerate(tqdm(rotations, desc=str(folder))):
            cv2.imwrite(str(folder / f"cube_{i:05d}.png"), images.image(rotation))
        equivalent = rotations[:, None] @ shape.symmetries
        np.savez(folder.parent / "rotations.npz", cube=equivalent)


def _make_bop(root: Path) -> None:
    """The mug in the layouts of T-LESS and HB: one set of images under their names."""
    from training.generate.dataset import generate

    views = ViewSettings("upright", resolution=(320, 240))
    settings = GenerationSettings("mug", "m", views=views, **_BOP_IMAGES)
    print(generate(MESH, root / "mug", settings, [], os.cpu_count()))
    for name, split in _BOP_SPLITS.items():
        folder = root / name
        folder.mkdir(exist_ok=True)
        for link, part in {"models_cad": "models", "train_pbr": "train", split: "test"}.items():
            if not (folder / link).is_symlink():
                (folder / link).symlink_to(Path("..") / "mug" / part)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(commands)
