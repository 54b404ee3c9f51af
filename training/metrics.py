"""Metrics of single pose estimates and of distributions, one image at a time.

Definitions: evaluation.md's conventions as implemented by the BOP toolkit (MSSD, MSPD, ADD, ADI)
and by Implicit-PDF (spread). Angles in degrees, lengths in metres, log densities in nats.
"""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree

from spyropose_ros.core import se3_grid
from spyropose_ros.core.search import PosePyramid
from training.data.samples import EvaluationObject, Sample

COVERAGES = (0.5, 0.8, 0.9, 0.95)
MSSD_THRESHOLDS = np.arange(0.05, 0.51, 0.05)  # of the diameter
MSPD_THRESHOLDS = np.arange(5, 51, 5)  # pixels at an image width of 640
OUTSIDE_FLOOR = -10.0
"""Gain over the uniform box that a truth outside the box is given in means (its density is 0)."""


def rotation_error(estimate: np.ndarray, truth: np.ndarray, symmetries: np.ndarray) -> float:
    """Geodesic angle in degrees to the nearest equivalent truth.

    Args:
        estimate: [3, 3].
        truth: [3, 3].
        symmetries: [S, 4, 4].
    """
    equivalent = truth @ symmetries[:, :3, :3]  # [S, 3, 3]
    cos = (np.einsum("sij,ij->s", equivalent, estimate) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cos.max(), -1, 1))))


def vertex_errors(
    R: np.ndarray, t: np.ndarray, sample: Sample, target: EvaluationObject
) -> dict[str, float]:
    """MSSD and ADI (m), ADD (m), MSPD (px at width 640) of one estimate."""
    estimate = target.vertices @ R.T + t  # [V, 3]
    truth = target.vertices @ sample.rotation.T + sample.translation
    mssd, mspd = math.inf, math.inf
    for S in target.symmetries:
        other = (target.vertices @ S[:3, :3].T + S[:3, 3]) @ sample.rotation.T + sample.translation
        mssd = min(mssd, float(np.linalg.norm(estimate - other, axis=1).max()))
        difference = _pixels(sample.K, estimate) - _pixels(sample.K, other)
        mspd = min(mspd, float(np.linalg.norm(difference, axis=1).max()))
    return {
        "mssd": mssd,
        "mspd": mspd * 640 / sample.image.shape[1],
        "add": float(np.linalg.norm(estimate - truth, axis=1).mean()),
        "adi": float(cKDTree(estimate).query(truth)[0].mean()),
    }


def image_metrics(
    pyramid: PosePyramid,
    center: np.ndarray,
    diameter: float,
    sample: Sample,
    target: EvaluationObject,
) -> dict:
    """All numbers of one image.

    Args:
        pyramid: of one detection.
        center: bounding-sphere centre in object coordinates, metres, [3].
        diameter: of the bounding sphere, metres.
        sample: the truth.
        target: the object.
    """
    distribution = pyramid.distribution(0, torch.from_numpy(center).float(), diameter).to("cpu")
    R_true = torch.from_numpy(sample.rotation).float()
    t_true = torch.from_numpy(sample.translation).float()
    equivalent = R_true @ torch.from_numpy(target.symmetries[:, :3, :3]).float()  # [S, 3, 3]
    sphere = t_true + R_true @ torch.from_numpy(center).float()
    uniform = float(se3_grid.uniform_log_density(pyramid.box)[0])

    levels = pyramid.log_density_per_level(R_true[None, None], sphere[None, None])[0, 0]
    final = float(distribution.log_density(R_true[None], t_true[None])[0])
    R, t = (value.double().numpy() for value in distribution.mode())
    center_true = sample.rotation @ center + sample.translation
    center_error = (R @ center + t) - center_true
    ray = center_true / np.linalg.norm(center_true)
    depth_error = float(center_error @ ray)
    modes = distribution.modes()
    denser = distribution.log_densities >= final
    return {
        "id": sample.id,
        "visible_fraction": sample.visible_fraction,
        "handle_fraction": sample.handle_fraction,
        "inside_box": math.isfinite(final),
        "uniform": uniform,
        "gain_per_level": [_floored(float(v) - uniform) for v in levels],
        "gain": _floored(final - uniform),
        "rotation_error": rotation_error(R, sample.rotation, target.symmetries),
        "best_mode_error": min(
            (
                rotation_error(m.rotation.double().numpy(), sample.rotation, target.symmetries)
                for m in modes
            ),
            default=180.0,
        ),
        "n_modes": len(modes),
        "lateral_error": float(np.linalg.norm(center_error - depth_error * ray)),
        "depth_error": abs(depth_error),
        "spread": math.degrees(distribution.rotation_spread(equivalent)),
        "entropy": distribution.entropy(),
        "axis_entropy": distribution.entropy_about_axis(torch.tensor([0.0, 0.0, 1.0])),
        "covered": {
            str(mass): final >= distribution.credible_region(mass).log_density_threshold
            for mass in COVERAGES
        },
        # Mass of the smallest highest-density region that reaches the truth.
        "truth_rank": float(distribution.probabilities[denser].sum())
        if final > -math.inf
        else 1.01,
        "unexpanded_mass": distribution.unexpanded_mass,
        "evaluations": int(pyramid.evaluations[0]),
        **vertex_errors(R, t, sample, target),
    }


def summarise(records: list[dict], target: EvaluationObject, diameter: float) -> dict:
    """Means, medians and recalls over images; empty dict for no images."""
    if not records:
        return {}
    column = lambda key: np.array([r[key] for r in records], dtype=float)  # noqa: E731
    mean_error = lambda v: [float(v.mean()), float(v.std(ddof=1) / math.sqrt(len(v)))]  # noqa: E731
    gain, uniform = column("gain"), column("uniform")
    rotation, lateral, depth = (
        column("rotation_error"),
        column("lateral_error"),
        column("depth_error"),
    )
    add = column("adi" if len(target.symmetries) > 1 else "add")
    mssd = (column("mssd")[:, None] < MSSD_THRESHOLDS * target.diameter).mean()
    mspd = (column("mspd")[:, None] < MSPD_THRESHOLDS).mean()
    return {
        "images": len(records),
        "inside_box": float(column("inside_box").mean()),
        "ll_uniform_zero": mean_error(gain) if len(gain) > 1 else [float(gain[0]), math.nan],
        "ll_pi2": float((gain + uniform).mean()),
        "ll_of_uniform_box_pi2": float(uniform.mean()),
        "ll_uniform_zero_per_level": [
            float(v) for v in np.mean([r["gain_per_level"] for r in records], axis=0)
        ],
        "rotation_median_deg": float(np.median(rotation)),
        "best_mode_rotation_median_deg": float(np.median(column("best_mode_error"))),
        **{f"acc_{a}": float((rotation <= a).mean()) for a in (5, 10, 15, 30)},
        "spread_mean_deg": float(column("spread").mean()),
        "lateral_median_m": float(np.median(lateral)),
        "lateral_median_of_diameter": float(np.median(lateral)) / diameter,
        "depth_median_m": float(np.median(depth)),
        "add_recall_0.1d": float((add < 0.1 * target.diameter).mean()),
        "mssd_recall": float(mssd),
        "mspd_recall": float(mspd),
        "mssd_mspd_mean": float((mssd + mspd) / 2),
        "coverage": {
            str(m): float(np.mean([r["covered"][str(m)] for r in records])) for m in COVERAGES
        },
        "entropy_mean": float(column("entropy").mean()),
        "axis_entropy_mean": float(column("axis_entropy").mean()),
        "modes_mean": float(column("n_modes").mean()),
        "unexpanded_mass_mean": float(column("unexpanded_mass").mean()),
        "evaluations_mean": float(column("evaluations").mean()),
    }


def _floored(gain: float) -> float:
    return gain if math.isfinite(gain) else OUTSIDE_FLOOR


def _pixels(K: np.ndarray, points: np.ndarray) -> np.ndarray:
    homogeneous = points @ K.T
    return homogeneous[:, :2] / homogeneous[:, 2:]
