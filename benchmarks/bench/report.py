"""All measurements of a run, as plain numbers."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from benchmarks.bench import arithmetic, baselines, machine, memory, stages
from benchmarks.bench.arithmetic import Rates, Work
from benchmarks.bench.curves import CURVES, Bench
from benchmarks.bench.networks import Crops, Scene, open_estimator, open_network, search_features
from benchmarks.bench.timing import in_turn
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.bundle_files import bundle_name
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.reference import MAX_DEPTH
from spyropose_ros.core.search import PosePyramid
from training import provenance

_COMPARED_DEPTH = 7
"""At which this search is compared with the reference, besides the network's own."""


@dataclass(frozen=True)
class Options:
    """What a run measures.

    Attributes:
        network: see `open_network`.
        device: where.
        settings: of the search.
        depth: levels; the network's own by default.
        curves: names of `CURVES`.
        quick: fewer values and calls.
        images: of the log-likelihoods in the curves; 0 for none.
        memory: whether to measure it, which needs a process of its own.
        data_root: where data sets lie.
    """

    network: str
    device: torch.device
    settings: SearchSettings
    depth: int | None
    curves: Sequence[str]
    quick: bool
    images: int
    memory: bool
    data_root: str


def measure(options: Options, tell: Callable[[str], None]) -> dict:
    """Run everything.

    Args:
        options: what to run.
        tell: called with what comes next.
    """
    device = options.device
    bundle = baselines.deeper(open_network(options.network), options.depth)
    scene = Scene.of(bundle, options.data_root)
    estimator = open_estimator(bundle, device, options.settings)
    seen = Crops.of(estimator, scene)
    pyramid = search_features(estimator, seen)
    config = bundle.model.config
    report = {
        "command": provenance.command(),
        "package_version": provenance.package_version(),
        "git_commit": provenance.git_commit(),
        "machine": machine.describe(device),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "quick": options.quick,
        "network": bundle_name(bundle.name),
        "levels": config.depth,
        "trained_levels": open_network(options.network).model.config.depth,
        "keypoints": len(bundle.model.keypoints),
        "model": config.to_dict(),
        "settings": asdict(options.settings),
        "image_size": list(scene.image.shape[:2]),
        "ros": stages.messages is not None,
    }
    tell("stages")
    report |= _stages(estimator, scene, seen, pyramid, options)
    tell("rates of this machine, lower bound")
    report["bound"] = _bound(estimator, scene, seen, pyramid, report)
    tell("other ways")
    report["against"] = _against(bundle, scene, options)
    report["memory"] = {}
    if options.memory:
        tell("memory")
        report["memory"] = _memory(options)
    bench = Bench(
        bundle,
        device,
        options.settings,
        scene,
        options.quick,
        options.images,
        options.data_root,
    )
    report["curves"] = {}
    for name in options.curves:
        tell(f"curve: {name}")
        report["curves"][name] = CURVES[name](bench).to_dict()
    return report


def _stages(
    estimator: Estimator, scene: Scene, seen: Crops, pyramid: PosePyramid, options: Options
) -> dict:
    """Measure times by stage, parts of the scoring, and the whole without instrumentation."""
    budget = 2.0 if options.quick else 8.0
    times = stages.stage_times(estimator, scene, budget)
    shares = stages.scoring_shares(estimator, seen)
    call = {"": lambda: stages.end_to_end(estimator, scene)}
    whole = in_turn(call, estimator.device, budget)[""]
    return {
        "stages": {name: value.to_dict() for name, value in times.items()},
        "scoring_shares": {str(level): parts for level, parts in shares.items()},
        "poses": [int(level.log_probability[0].isfinite().sum()) for level in pyramid.levels],
        "expanded": [int(level.expanded[0].sum()) for level in pyramid.levels],
        "unexpanded_mass": float(pyramid.unexpanded_mass[0]),
        "end_to_end": whole.to_dict(),
    }


def _bound(
    estimator: Estimator, scene: Scene, seen: Crops, pyramid: PosePyramid, report: dict
) -> dict:
    """Compute the least work of each part, and the share of this machine's best reached."""
    device, config = estimator.device, estimator.model.config
    macs, dtype = machine.matmul_rate(device)
    rates = Rates(macs, machine.copy_rate(device), dtype.itemsize)
    height, width = scene.image.shape[:2]
    parts = {
        "crop": [arithmetic.crop_work(height * width, config)],
        "backbone": [arithmetic.backbone_work(estimator, seen.crops, rates)],
    }
    for level, poses, expanded in zip(
        pyramid.levels, report["poses"], report["expanded"], strict=True
    ):
        parts[f"level {level.cells.level}"] = [
            arithmetic.level_work(config, len(estimator.model.keypoints), poses, rates),
            arithmetic.selection_work(poses, expanded),
        ]
    measured = dict.fromkeys(parts, 0.0)
    for stage, times in report["stages"].items():
        name = "crop" if stage == stages.UPLOAD else " ".join(stage.split()[:2])
        name = "level 0" if stage == stages.SETUP else name
        if name in measured:
            measured[name] += times["median_s"]
    rows = {name: _row(works, rates, measured[name]) for name, works in parts.items()}
    search = [row for name, row in rows.items() if name.startswith("level")]
    rows["search, all levels"] = _sum(search)
    rows["crop, backbone and search"] = _sum([rows["crop"], rows["backbone"], *search])
    return {
        "macs_per_s": macs,
        "dtype": str(dtype).removeprefix("torch."),
        "copied_bytes_per_s": rates.bytes,
        "parts": rows,
    }


def _row(works: list[Work], rates: Rates, measured: float) -> dict:
    total = sum(works, Work(0, 0))
    bound = sum(work.seconds(rates) for work in works)
    return {
        "macs": total.macs,
        "bytes": total.bytes,
        "bound_s": bound,
        "measured_s": measured,
        "reached": bound / measured,
    }


def _sum(rows: list[dict]) -> dict:
    total = {key: sum(row[key] for row in rows) for key in rows[0]}
    return total | {"reached": total["bound_s"] / total["measured_s"]}


def _against(bundle: ModelBundle, scene: Scene, options: Options) -> dict:
    """Measure the baselines: the searches at two depths, every cell, and the implicit head."""
    device, quick = options.device, options.quick
    own = bundle.model.config.depth
    depths = [own] if quick or own >= _COMPARED_DEPTH else [own, _COMPARED_DEPTH]
    budget, least = (6.0, 1) if quick else (25.0, 3)
    searches = {
        str(depth): [
            baseline.to_dict()
            for baseline in baselines.searches(
                baselines.deeper(bundle, depth), device, options.settings, scene, budget, least
            )
        ]
        for depth in depths
    }
    every = baselines.exhaustive(bundle, device, scene, own, deepest=2 if quick else 3)
    implicit = baselines.implicit(device, quick)
    return {"searches": searches, "others": [baseline.to_dict() for baseline in [*every, implicit]]}


def _memory(options: Options) -> dict[str, float | None]:
    """Measure megabytes above the weights of one search, this one's and the reference's."""
    names = [baselines.FAST]
    depth = options.depth or open_network(options.network).model.config.depth
    if depth <= MAX_DEPTH:
        names.append(baselines.REFERENCE)
    settings, root = options.settings, options.data_root
    return memory.peaks(names, options.network, options.device, settings, depth, root)
