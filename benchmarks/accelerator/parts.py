"""What there is to do with a GPU, the most valuable first."""

import os
from functools import partial
from pathlib import Path

from benchmarks.accelerator import figures
from benchmarks.accelerator.schedule import START, Part

TILES = "tiles"
"""The part whose log is a table."""

_MACHINE, _TRAINING = "machine", "training"
_OBJECT = "driller"

_NETWORK = ("numpy", "safetensors", "torch")
_TESTS = (*_NETWORK, "hypothesis", "pytest", "triton")
_SCENES = (
    *("cv2", "embreex", "jsonargparse", "lightning", "matplotlib", "numba", "scipy", "tqdm"),
    "trimesh",
)

_TEST_FILES = ("test/test_gpu_path.py", "test/test_cuda_graphs.py", "test/test_triton_heads.py")

_BENCH = {
    "cuda": "--model paper --curves batch,beam",
    "cpu": "--model demo --depth 3 --beam 32 --curves none --no-memory",
}
_PAPER_SIZE = (
    "--depth 6 --batch-size 32 --lr 4e-4 --precision bf16-mixed --validation-images 64 "
    "--steps-per-epoch 500"
)
_TINY = (
    "--depth 3 --batch-size 4 --lr 1e-3 --backbone resnet18-slim --no-pretrained "
    "--crop-resolution 64 --feature-stride 4 --decoder-channels [64,32] --feature-channels 16 "
    "--embed-dim 8 --hidden-dim 32 --validation-images 4"
)
_NETWORKS = {"cuda": _PAPER_SIZE, "cpu": _TINY}
"""On a CPU one step of the published size would take longer than all the minutes."""

_MINUTES = (
    "--sampling distinct --n-samples 8 --no-translation-offset --surface-weight 2 --max-roll 0 "
    "--detector-noise boxes --dropout 0 --point-dropout 0 --no-sensor --weight-decay 0.01 "
    "--gradient-clip 5 --warmup-share 0.05"
)
"""What is changed of the published training, because time is short."""

_EXPORT = 5.0
"""Seconds that are kept for the bundle."""

_HOURS = {"cuda": 0.9 / 3600, "cpu": 0.2 / 3600}
"""Of the training per second. On a CPU they are core-hours, of which a busy one gives little."""


def make_parts(device: str, data_root: Path, output: Path, run: Path) -> list[Part]:
    """Return all parts.

    Args:
        device: "cuda"; or "cpu" for the same with small networks.
        data_root: where data sets lie.
        output: folder for tables and figures.
        run: folder of the training.
    """
    lmo, bundle = data_root / "lmo", run / "bundle"
    objects, photographs = lmo / "models", lmo / "test" / "000002" / "rgb"

    def evaluation(split: str, seconds: float) -> list[str]:
        module = ["-m", "benchmarks.accelerator.evaluation", str(bundle), split]
        return [*module, f"{seconds - START:.0f}", device, str(data_root)]

    return [
        Part(
            _MACHINE,
            lambda _: ["-m", "benchmarks.accelerator.machine", device],
            0.15,  # the first import of PyTorch from a cold disk
            figures.last_line,
            ("torch",),
        ),
        Part(
            "tests",
            lambda _: ["-m", "pytest", "-v", "-p", "no:cacheprovider", *_TEST_FILES],
            0.2,
            figures.tests,
            _TESTS,
            after=(_MACHINE,),
        ),
        Part(
            TILES,
            lambda _: ["-m", "benchmarks.accelerator.tiles"],
            0.15,
            figures.tiles,
            (*_NETWORK, "triton"),
            after=(_MACHINE,),
            expects_failure=device == "cpu",
        ),
        Part(
            "bench",
            lambda _: [
                *f"-m benchmarks.bench --device {device} --quick {_BENCH[device]}".split(),
                *("--data-root", str(data_root), "--output", str(output)),
            ],
            0.25,
            figures.bench,
            (*_NETWORK, *_SCENES),
            after=(_MACHINE,),
        ),
        Part(
            _TRAINING,
            lambda seconds: _train(device, data_root, run, seconds - START - _EXPORT),
            0.1,
            partial(figures.training, bundle),
            (*_NETWORK, *_SCENES, "kornia", "yaml"),
            (objects,),
            (_MACHINE,),
            takes_rest=True,
        ),
        Part(
            "photographs",
            partial(evaluation, "dev"),  # never test: it selects nothing
            0.06,
            figures.evaluation,
            files=(photographs,),
            after=(_TRAINING,),
            takes_rest=True,
        ),
        Part(
            "renderings",
            partial(evaluation, "renderings"),
            0.06,
            figures.evaluation,
            after=(_TRAINING,),
            takes_rest=True,
        ),
    ]


def _train(device: str, data_root: Path, run: Path, seconds: float) -> list[str]:
    """Return the arguments of a training."""
    hours = max(1.0, seconds) * _HOURS[device]
    accelerator = {"cuda": "gpu", "cpu": "cpu"}[device]
    workers = max(1, len(os.sched_getaffinity(0)) - 2) if device == "cuda" else 1
    return [
        *f"-m training.train lmo {_OBJECT} --preset paper {_NETWORKS[device]} {_MINUTES}".split(),
        *f"--hours {hours:.4f} --accelerator {accelerator} --num-workers {workers}".split(),
        *("--logger", "none", "--data-root", str(data_root)),
        *("--runs", str(run.parent), "--run-id", run.name),
    ]
