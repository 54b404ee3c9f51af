"""Fit one temperature per level on validation renderings: `python -m training.calibrate BUNDLE`.

At each level the temperature maximises the likelihood of the true child among the expanded cells.
The bundle is rewritten in place with the temperatures; weights do not change.

Source: Guo et al., ICML 2017 (temperature scaling), applied level by level.
"""

import logging

import torch
from jsonargparse import auto_cli
from scipy.optimize import minimize_scalar
from tqdm import tqdm

from spyropose_ros.core import se3_grid
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.search import PosePyramid
from training.data.samples import rendered_samples

log = logging.getLogger(__name__)

_SEED_OFFSET = 10_000  # apart from every evaluation seed
_BOUNDS = (0.3, 5.0)


def calibrate(
    bundle: str, images: int = 200, seed: int = 0, beam: int = 64, data_root: str = "data"
) -> list[float]:
    """Fit and store the temperatures.

    Args:
        bundle: folder of the bundle.
        images: validation renderings.
        seed: of the renderings.
        beam: of the search that collects logits.
        data_root: where downloaded data sets lie.

    Returns:
        The temperatures, coarse to fine.
    """
    loaded = ModelBundle.from_pretrained(bundle)
    depth = loaded.model.config.depth
    loaded.temperatures = [1.0] * depth
    estimator = Estimator(loaded, settings=SearchSettings(beam, 0.0))
    center = torch.tensor(loaded.object.center)
    collected: list[list[tuple[torch.Tensor, int]]] = [[] for _ in range(depth)]
    samples = rendered_samples(loaded.record["object"], images, seed + _SEED_OFFSET, data_root)
    for sample in tqdm(samples, total=images, unit="image"):
        pyramid = estimator.search(sample.image, sample.K, sample.box[None])
        R = torch.from_numpy(sample.rotation).float()
        t = torch.from_numpy(sample.translation).float() + R @ center
        for level, found in enumerate(_true_cells(pyramid, R, t)):
            if found is not None:
                collected[level].append(found)
    loaded.temperatures = [round(_fit(pairs), 4) for pairs in collected]
    loaded.record["calibration"] = {"images": images, "seed": seed, "beam": beam}
    loaded.save_pretrained(bundle)
    log.info("temperatures: %s", loaded.temperatures)
    return loaded.temperatures


def _true_cells(
    pyramid: PosePyramid, R: torch.Tensor, t: torch.Tensor
) -> list[tuple[torch.Tensor, int] | None]:
    """Per level: log masses of the scored cells and which holds the truth, None if not scored."""
    R, t = R.to(pyramid.box.center)[None, None], t.to(pyramid.box.center)[None, None]
    if not pyramid.box.contains(t):
        return [None] * len(pyramid.levels)
    found = []
    for level in pyramid.levels:
        cell = se3_grid.containing(R, t, pyramid.box, level.cells.level)
        hit = (level.cells.keys()[0] == cell.keys()[0, 0]).nonzero()
        found.append((level.log_probability[0], int(hit[0])) if len(hit) else None)
    return found


def _fit(pairs: list[tuple[torch.Tensor, int]]) -> float:
    """Temperature of least negative log-likelihood; 1 without data."""
    if not pairs:
        return 1.0

    def loss(log_temperature: float) -> float:
        scale = torch.tensor(-log_temperature).exp()
        total = sum(float((v * scale).log_softmax(0)[i]) for v, i in pairs)
        return -total / len(pairs)

    bounds = tuple(torch.tensor(_BOUNDS).log().tolist())
    best = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(torch.tensor(best.x).exp())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    auto_cli(calibrate, as_positional=True)
