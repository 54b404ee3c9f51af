"""What a chosen view is worth: `python -m benchmarks.accuracy.next_view [--model models/lmo_can]`.

An object is seen once, and one of several cameras may look next. How much each look lowers the
entropy of the pose is measured: the first image and the camera's own are fused in the pyramid.
Compared are the look that `core.next_view` chooses, the one that a search with every rendered look
chooses (slow: what next_view approximates), the widest turn, a second look from the first camera, a
random one, and the best of all. The search takes looks for independent, so that even the same image
again lowers the entropy.

The demo's mug is seen with its handle hidden, and the cameras are half around it, from near to far.
Of another object its data set's images are taken in random groups. Writes <output>/next_view.md.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.search_settings import SearchSettings
from training import cli, markdown, provenance

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution
    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.core.next_view import Render
    from training.data.source import Source

_CHOSEN, _SEARCHED, _WIDEST, _AGAIN, _RANDOM, _BEST = (
    *("next_view", "a search for every rendered look", "the widest turn"),
    *("the first camera again", "a random camera", "the best camera"),
)
_LOOKS = 4  # rendered per camera for the search
_PICTURE = 256  # pixels


@dataclass(frozen=True)
class Sight:
    """An object as a camera sees it.

    Attributes:
        image: RGB uint8 [H, W, 3].
        K: intrinsics, [3, 3].
        box: xyxy, pixels, [4].
        camera_from_object: true, [4, 4].
    """

    image: np.ndarray
    K: np.ndarray
    box: np.ndarray
    camera_from_object: np.ndarray


def next_view(
    model: str = "models/demo_mug",
    split: str = "dev",
    scenes: int = 20,
    cameras: int = 10,
    beam: int = 128,
    search: bool = True,
    data_root: str = "data",
    output: str = "runs/next_view",
) -> list[str]:
    """Measure and write the table.

    Args:
        model: bundle of the object.
        split: of its data set.
        scenes: number of first views.
        cameras: to choose from in each.
        beam: of the searches.
        search: compare with a search for every rendered look.
        data_root: where data sets lie.
        output: folder of the table.

    Returns:
        The lines of the table.

    Raises:
        InputError: a model of another object.
    """
    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.core.next_view import next_view as chosen
    from spyropose_ros.scenes.portrait import Portrait
    from training import runs
    from training.data.rendered import LmoSource, RenderedSource

    estimator = Estimator.from_pretrained(model, settings=SearchSettings(beam, mass_tolerance=0.0))
    source = runs.bundle_source(estimator.bundle, data_root, None)
    if not isinstance(source, RenderedSource):
        raise InputError(f"{model} is of {source.name}: choose a model of the mug or of LM-O")
    render = Portrait(source.mesh)
    photographed = isinstance(source, LmoSource)
    groups = photographs(source, split, cameras) if photographed else mug_sights(cameras)
    told: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {_CHOSEN: [], _SEARCHED: []}
    for first, others in tqdm(islice(groups, scenes), total=scenes, unit="scene"):
        (found,) = estimator.estimate(first.image, first.K, first.box[None])
        poses = [
            first.camera_from_object @ np.linalg.inv(sight.camera_from_object) for sight in others
        ]
        fused = Fused(estimator, first, found)
        true = np.array([fused.told(o.image, o.K, p) for o, p in zip(others, poses, strict=True)])
        started = time.perf_counter()
        choice = chosen(estimator, found, np.stack([o.K for o in others]), np.stack(poses), render)
        seconds[_CHOSEN].append(time.perf_counter() - started)
        picks = {_CHOSEN: true[choice.best]}
        if search:
            started = time.perf_counter()
            expected = [fused.expected(o.K, p, render) for o, p in zip(others, poses, strict=True)]
            seconds[_SEARCHED].append(time.perf_counter() - started)
            picks[_SEARCHED] = true[int(np.argmax(expected))]
        picks[_WIDEST] = true[int(np.argmin([pose[2, 2] for pose in poses]))]
        picks[_AGAIN] = fused.told(first.image, first.K, np.eye(4))
        picks |= {_RANDOM: true.mean(), _BEST: true.max()}
        for name, value in picks.items():
            told.setdefault(name, []).append(float(value))
    lines = _lines(told, seconds, estimator, source.name, cameras, beam)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "next_view.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return lines


class Fused:
    """What another look tells beside the first, by a search with both.

    Args:
        estimator: of the object.
        first: the first look.
        found: its distribution, whose frame is the first camera's.
    """

    def __init__(self, estimator: Estimator, first: Sight, found: PoseDistribution):
        self._estimator, self._first, self._found = estimator, first, found
        rotation, translation = found.mean()
        center = np.array(estimator.bundle.object.center)
        self._center = rotation.numpy() @ center + translation.numpy()

    def told(self, image: np.ndarray, K: np.ndarray, pose: np.ndarray) -> float:
        """Return how much an image lowers the entropy, nats; pose [4, 4]: from its camera."""
        after = self._estimator.estimate_multiview(
            [self._first.image, image],
            [self._first.K, K],
            np.stack([np.eye(4), pose]),
            self._center,
            box=self._found.box,
        )
        return self._found.entropy() - after.entropy()

    def expected(self, K: np.ndarray, pose: np.ndarray, render: Render) -> float:
        """Return the mean of `told` over rendered looks at poses of the distribution."""
        import torch

        from spyropose_ros.core import camera

        info = self._estimator.bundle.object
        camera_from_first = np.linalg.inv(pose)
        seen = camera_from_first[:3, :3] @ self._center + camera_from_first[:3, 3]
        estimate = torch.from_numpy(seen)[None]
        around = camera.crop_intrinsics(estimate, info.diameter, torch.from_numpy(K), _PICTURE, 2.0)
        K_picture = around[0].numpy()
        generator = torch.Generator().manual_seed(0)
        gains = []
        for R, t in zip(*self._found.sample(_LOOKS, generator, systematic=True), strict=True):
            turned = camera_from_first[:3, :3] @ R.double().numpy()
            moved = camera_from_first[:3, :3] @ t.double().numpy() + camera_from_first[:3, 3]
            picture = render(turned, moved, K_picture, _PICTURE)
            gains.append(self.told(picture, K_picture, pose))
        return float(np.mean(gains))


def mug_sights(cameras: int) -> Iterator[tuple[Sight, list[Sight]]]:
    """Render mugs whose handle is hidden, each with cameras half around it, from near to far."""
    from spyropose_ros.demo.mug_views import MugViews

    views = MugViews()
    rng = np.random.default_rng(11)

    def sight(azimuth: float, elevation: float, distance: float) -> Sight:
        view = views.view(azimuth, math.radians(elevation), distance, rng)
        return Sight(view.image, MugViews.K, view.box, view.camera_from_object)

    while True:
        behind = math.pi + rng.normal(0, 0.25)
        first = sight(behind, rng.uniform(15, 35), 0.6)
        turns = rng.uniform(-math.pi / 2, math.pi / 2, cameras)
        yield (
            first,
            [sight(behind + t, rng.uniform(15, 55), rng.uniform(0.45, 1.5)) for t in turns],
        )


def photographs(source: Source, split: str, cameras: int) -> Iterator[tuple[Sight, list[Sight]]]:
    """Group the images that show the object, at random."""
    from training.evaluate_multiview import view_groups

    for group in view_groups(source, split, 1, cameras + 1):
        sights = []
        for view in group:
            sample, pose = view.sample, np.eye(4)
            assert sample.box is not None  # renderings and photographs have one
            # Annotated with three digits, which two cameras may double.
            pose[:3, :3] = Rotation.from_matrix(sample.rotation).as_matrix()
            pose[:3, 3] = sample.translation
            sights.append(Sight(sample.image, sample.K, sample.box, pose))
        if len(sights) > 2:
            yield sights[0], sights[1:]


def _lines(
    told: dict[str, list[float]],
    seconds: dict[str, list[float]],
    estimator: Estimator,
    name: str,
    cameras: int,
    beam: int,
) -> list[str]:
    """Return the table in Markdown."""
    table = {choice: np.array(values) for choice, values in told.items()}
    best, random = table[_BEST].mean(), table[_RANDOM].mean()
    rows = []
    for choice, values in table.items():
        error = values.std(ddof=1) / len(values) ** 0.5
        taken = f"{np.median(seconds[choice]):.1f} s" if seconds.get(choice) else "-"
        shares = f"{values.mean() / best:.0%}", f"{values.mean() / random:.2f}"
        rows.append([choice, f"{values.mean():.2f} ± {error:.2f}", *shares, taken])
    hardware = provenance.hardware(str(estimator.device))
    return [
        f"{name}, {len(table[_BEST])} first views, {cameras} cameras to choose from, beam {beam}, "
        f"on {hardware}. What the second look lowers the entropy by, nats ± standard error.",
        "",
        *markdown.table(["look", "nats", "of the best", "random looks", "time to choose"], rows),
    ]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(next_view)
