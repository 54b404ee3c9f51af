"""What more cameras are worth: `python -m benchmarks.accuracy.fusion`.

The demo's mug, seen by four cameras that stand round it. The truth's log-likelihood of each camera
alone, and of two and of four fused in the pyramid by every rule of `Estimator.estimate_multiview`.
Boxes have a detector's noise, and the fused searches start from what they triangulate to. Writes
<output>/fusion.md.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from spyropose_ros.core.search_settings import SearchSettings
from training import cli, markdown, provenance

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution
    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.demo.mug_views import MugViews, View

CAMERAS = 4
RULES = "sum", "root", "mean"


@dataclass(frozen=True)
class Scene:
    """A mug and its cameras.

    Attributes:
        views: the images.
        world_from_object: [4, 4].
    """

    views: list[View]
    world_from_object: np.ndarray

    @property
    def world_from_cameras(self) -> np.ndarray:
        """[V, 4, 4]."""
        poses = np.stack([view.camera_from_object for view in self.views])
        return self.world_from_object @ np.linalg.inv(poses)


def scene(views: MugViews, seed: int) -> Scene:
    """Render a random scene: cameras about 90 degrees apart, 15 to 55 degrees above the table."""
    rng = np.random.default_rng([7, seed])
    azimuths = rng.uniform(0, 360) + np.arange(CAMERAS) * 90 + rng.uniform(-20, 20, CAMERAS)
    seen = [
        views.view(
            math.radians(azimuth),
            math.radians(rng.uniform(15, 55)),
            rng.uniform(0.45, 0.8),
            rng,
        )
        for azimuth in azimuths
    ]
    yaw = rng.uniform(0, 2 * math.pi)
    world = np.eye(4)
    world[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    world[:3, 3] = rng.uniform(-1, 1, 3)
    return Scene(seen, world)


def fused(estimator: Estimator, scene: Scene, n: int, fusion: str) -> float:
    """Log density of the truth given the first n cameras, nats."""
    from spyropose_ros.core.triangulation import triangulate
    from spyropose_ros.demo.mug_views import MugViews

    info, views = estimator.bundle.object, scene.views[:n]
    Ks, poses = [MugViews.K] * n, scene.world_from_cameras[:n]
    boxes = [view.box for view in views]
    center = triangulate(boxes, Ks, poses, info.diameter, info.size_ratio)
    found = estimator.estimate_multiview([view.image for view in views], Ks, poses, center, fusion)
    return _log_density(found, scene.world_from_object)


def alone(estimator: Estimator, view: View) -> float:
    """Log density of the truth given one camera, nats."""
    from spyropose_ros.demo.mug_views import MugViews

    (found,) = estimator.estimate(view.image, MugViews.K, view.box[None])
    return _log_density(found, view.camera_from_object)


def _log_density(found: PoseDistribution, truth: np.ndarray) -> float:
    """Return the truth's log density, at least the uniform one's if it is outside the box."""
    import torch

    from spyropose_ros.core import se3_grid

    pose = torch.from_numpy(truth).float()
    density = float(found.log_density(pose[None, :3, :3], pose[None, :3, 3]))
    return max(density, float(se3_grid.uniform_log_density(found.box)))


def fusion(
    model: str = "models/demo_mug",
    scenes: int = 40,
    beam: int = 128,
    output: str = "runs/fusion",
) -> list[str]:
    """Measure and write the table.

    Args:
        model: bundle of the mug.
        scenes: number of random scenes.
        beam: of the search.
        output: folder of the table.

    Returns:
        The lines of the table.
    """
    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.demo.mug_views import MugViews

    # Fused coarse levels are so sharp that a tolerance would prune the truth.
    estimator = Estimator.from_pretrained(model, settings=SearchSettings(beam, mass_tolerance=0.0))
    views = MugViews()
    rows: dict[str, list[float]] = {}
    for seed in tqdm(range(scenes), unit="scene"):
        one = scene(views, seed)
        single = [alone(estimator, view) for view in one.views]
        values = {
            "one camera": float(np.mean(single)),
            "the better of two": max(single[:2]),
            "the best of four": max(single),
        }
        for rule in RULES:
            values[f"two, {rule}"] = fused(estimator, one, 2, rule)
            values[f"four, {rule}"] = fused(estimator, one, CAMERAS, rule)
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
    lines = _lines(rows, estimator, beam)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "fusion.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return lines


def _lines(rows: dict[str, list[float]], estimator: Estimator, beam: int) -> list[str]:
    """Return the table in Markdown."""
    table = {name: np.array(values) for name, values in rows.items()}
    better = table["the better of two"]
    lines = [
        f"demo_mug, {len(better)} scenes, beam {beam}, on "
        f"{provenance.hardware(str(estimator.device))}. Log-likelihood of the truth (pi^2 "
        "convention, m^3) and its difference from the better of the first two cameras, in nats ± "
        "standard error. Which camera is the better is told by the truth.",
        "",
        *markdown.table(
            ["cameras", "LL", "above the better of two"],
            [
                [name, markdown.mean(values), markdown.mean(values - better)]
                for name, values in table.items()
            ],
        ),
    ]
    gains = {rule: table[f"four, {rule}"] - table[f"two, {rule}"] for rule in RULES}
    more = (f"{rule} {markdown.mean(gain)}" for rule, gain in gains.items())
    return [*lines, "", f"Four cameras above two, nats: {', '.join(more)}."]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(fusion)
