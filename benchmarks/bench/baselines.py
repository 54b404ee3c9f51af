"""The same question answered by other means, in the same minutes."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.bench.networks import Crops, Scene, open_estimator, search_features, with_depth
from benchmarks.bench.timing import Times, in_turn, synchronise
from spyropose_ros.core import so3_grid
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.network.backbone import resolve_backbone
from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.rotation_model import RotationModel
from spyropose_ros.core.reference import MAX_DEPTH, ReferenceSearch

FAST, FULL, REFERENCE = "this search", "this search, full beam", "reference formulation"
GRAPHS = "full beam, CUDA graphs"
IMPLICIT_LEVEL = 5
_AT_ONCE = 1 << 16  # rotations in one pass of the implicit head
_BASE, _FAMILY = 576, 64


@dataclass(frozen=True)
class Baseline:
    """How long one way takes.

    Attributes:
        name: of the way.
        poses: that it scores.
        search: without the backbone.
        whole: with the backbone; None where it was not measured.
        measured_poses: fewer than `poses` where the times are extrapolated from as many.
    """

    name: str
    poses: int
    search: Times
    whole: Times | None = None
    measured_poses: int | None = None

    def to_dict(self) -> dict:
        """Return plain numbers."""
        return {
            "name": self.name,
            "poses": self.poses,
            "search": self.search.to_dict(),
            "with_backbone": self.whole and self.whole.to_dict(),
            "extrapolated_from_poses": self.measured_poses,
        }


def estimators(
    bundle: ModelBundle, device: torch.device, settings: SearchSettings
) -> dict[str, Estimator]:
    """Return the estimator with the given settings, and with a full beam."""
    full = replace(settings, mass_tolerance=0.0)
    return {
        FAST: open_estimator(bundle, device, settings),
        FULL: open_estimator(bundle, device, full),
    }


def searches(
    bundle: ModelBundle,
    device: torch.device,
    settings: SearchSettings,
    scene: Scene,
    budget: float,
    least: int,
) -> list[Baseline]:
    """Time this search and the reference formulation, in turn, alone and with the backbone.

    Args:
        bundle: the network, as deep as the searches shall be.
        device: where.
        settings: of this search; the reference takes 512 cells per level.
        scene: what is seen.
        budget: seconds.
        least: rounds, whatever they take.
    """
    ours = estimators(bundle, device, settings)
    seen = Crops.of(ours[FAST], scene)
    alone = {name: lambda e=e: search_features(e, seen) for name, e in ours.items()}
    whole = {
        name: lambda e=e: e.search_crops(seen.crops, seen.K_crop, seen.box)
        for name, e in ours.items()
    }
    if device.type == "cuda":
        graphs = replace(settings, mass_tolerance=0.0)
        captured, backed = (open_estimator(bundle, device, graphs, captured=True) for _ in range(2))
        captured.model.features = lambda _crops: seen.features  # captured without the backbone
        alone[GRAPHS] = lambda: captured.search_crops(seen.crops, seen.K_crop, seen.box)
        whole[GRAPHS] = lambda: backed.search_crops(seen.crops, seen.K_crop, seen.box)
    if bundle.model.config.depth <= MAX_DEPTH:
        reference = ReferenceSearch(bundle, device=device)
        features = reference.features(seen.crops)
        alone[REFERENCE] = lambda: reference.search_features(features, seen.K_crop, seen.box)
        whole[REFERENCE] = lambda: reference.search(seen.crops, seen.K_crop, seen.box)
    poses = {name: int(call().evaluations[0]) for name, call in alone.items()}
    calls = alone | {(name, "whole"): call for name, call in whole.items()}
    times = in_turn(calls, device, budget, least=least)
    return [Baseline(name, poses[name], times[name], times[name, "whole"]) for name in alone]


def exhaustive(
    bundle: ModelBundle, device: torch.device, scene: Scene, depth: int, deepest: int
) -> list[Baseline]:
    """Score every cell of a level: measured while it fits, extrapolated at the full depth.

    Args:
        bundle: the network.
        device: where.
        scene: what is seen.
        depth: that the extrapolation is for.
        deepest: most levels measured.
    """
    found = []
    for levels in range(1, min(deepest, bundle.model.config.depth) + 1):
        estimator = open_estimator(bundle, device, SearchSettings(exhaustive=True, depth=levels))
        seen = Crops.of(estimator, scene)
        call = {"": lambda e=estimator, s=seen: search_features(e, s)}
        times = in_turn(call, device, budget=2.0, least=1)[""]
        poses = _BASE * _FAMILY ** (levels - 1)
        found.append(Baseline(f"every cell, depth {levels}", poses, times))
    last = found[-1]
    poses = _BASE * _FAMILY ** (depth - 1)
    if poses > last.poses:
        scaled = Times([s * poses / last.poses for s in last.search.seconds])
        found.append(Baseline(f"every cell, depth {depth}", poses, scaled, None, last.poses))
    return found


@torch.inference_mode()
def implicit(device: torch.device, quick: bool) -> Baseline:
    """Time a head after Implicit-PDF: a vector of the image and a stored grid of rotations.

    Args:
        device: where.
        quick: score one rotation in 64 and extrapolate.
    """
    torch.manual_seed(0)
    architecture, _ = resolve_backbone("resnet18", pretrained=False)
    config = ModelConfig(architecture, scorer="vector", rotation_only=True, depth=1)
    model = RotationModel(config).eval().to(device)
    count = so3_grid.cell_count(IMPLICIT_LEVEL)
    scored = count // 64 if quick else count
    index = torch.arange(scored, device=device)
    rotations = torch.cat([so3_grid.rotations(i, IMPLICIT_LEVEL) for i in index.split(_AT_ONCE)])
    vector = model.features(torch.rand((1, 3, 224, 224), device=device))
    nowhere = rotations.new_zeros((1, 1, 3))

    def score() -> Tensor:
        parts = [
            model.logits(vector, nowhere, 0, part.unsqueeze(0), nowhere)
            for part in rotations.split(_AT_ONCE)
        ]
        return torch.cat(parts, 1).log_softmax(1)

    times = in_turn({"": score}, device, budget=2.0, least=1)[""]
    times = Times([seconds * count / scored for seconds in times.seconds])
    synchronise(device)
    name = "Implicit-PDF head, rotations only"
    return Baseline(name, count, times, None, scored if scored < count else None)


def deeper(bundle: ModelBundle, depth: int | None) -> ModelBundle:
    """Return the network as deep as asked for."""
    own = bundle.model.config.depth
    return bundle if depth in (None, own) else with_depth(bundle, depth)
