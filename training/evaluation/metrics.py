"""Metrics of pose distributions, one image at a time, and their summary over images.

Definitions: Implicit-PDF (log-likelihood over all equivalent truths, spread), Haugaard et al.,
ICCVW 2023 (log density of the leaf that holds the truth, by level), the BOP toolkit (recalls).
Angles in degrees, lengths in metres, log densities in nats.
"""

import math

import numpy as np
import torch
from scipy.stats import spearmanr

from spyropose_ros.core import se3_grid
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.search import PosePyramid
from training.data.source import EvaluationObject, Sample
from training.evaluation import pose_errors
from training.evaluation.report import ACCURACIES, COVERAGES

MSSD_THRESHOLDS = np.arange(0.05, 0.51, 0.05)  # of the diameter
MSPD_THRESHOLDS = np.arange(5, 51, 5)  # pixels at an image width of 640
OUTSIDE_FLOOR = -10.0
"""Gain over the uniform box that a truth outside the box is given in means (its density is 0)."""


def image_metrics(
    pyramid: PosePyramid,
    center: np.ndarray,
    diameter: float,
    sample: Sample,
    target: EvaluationObject,
    distribution: PoseDistribution | None = None,
) -> dict:
    """Compute all metrics of one image.

    Args:
        pyramid: of one detection.
        center: bounding-sphere centre in object coordinates, metres, [3].
        diameter: of the bounding sphere, metres.
        sample: the truth.
        target: the object.
        distribution: with other masses than the pyramid's, of which the levels before the last are.

    Returns:
        Plain numbers by name, None where one is not defined.
    """
    verified = distribution
    if distribution is None:
        at = torch.from_numpy(center).float()
        distribution = pyramid.distribution(0, at, diameter).to("cpu")
    equivalents = equivalent_rotations(sample, target)
    uniform = float(se3_grid.uniform_log_density(pyramid.box)[0])
    annotated, levels = _gains(pyramid, center, sample, equivalents, uniform)
    if verified is not None:
        truth = torch.from_numpy(sample.rotation)[None], torch.from_numpy(sample.translation)[None]
        annotated = float(verified.log_density(*truth)) - uniform
        levels[-1] = annotated if math.isfinite(annotated) else OUTSIDE_FLOOR
    return {
        "id": sample.id,
        "visible_fraction": sample.visible_fraction,
        "handle_fraction": _defined(sample.handle_fraction),
        "inside_box": math.isfinite(annotated),
        "uniform": uniform,
        "gain_per_level": levels,
        "truth_rank": _rank(distribution, annotated + uniform),
        "spread": math.degrees(distribution.rotation_spread(torch.from_numpy(equivalents).float())),
        "entropy": distribution.entropy(),
        "unexpanded_mass": distribution.unexpanded_mass,
        "evaluations": int(pyramid.evaluations[0]),
        **_answers(distribution, center, sample, target, equivalents),
    }


def equivalent_rotations(sample: Sample, target: EvaluationObject) -> np.ndarray:
    """Return all true rotations of an image, the annotated one included, [M, 3, 3]."""
    if sample.equivalents is not None:
        return sample.equivalents
    return sample.rotation @ target.symmetries[:, :3, :3]


def _gains(
    pyramid: PosePyramid,
    center: np.ndarray,
    sample: Sample,
    equivalents: np.ndarray,
    uniform: float,
) -> tuple[float, list[float]]:
    """Log densities over that of the uniform box.

    Returns:
        Of the annotated pose at the last level, -inf outside the box; and per level the mean over
        the truths that count: all equivalent rotations where the translation is known, otherwise
        the annotated pose.
    """
    annotated = sample.rotation[None]
    rotations = annotated if sample.box is not None else np.concatenate((annotated, equivalents))
    sphere = torch.from_numpy(sample.rotation @ center + sample.translation).float()
    density = pyramid.log_density_per_level(
        torch.from_numpy(rotations).float()[None], sphere.expand(1, len(rotations), 3)
    )[0].cpu()
    gain = density - uniform  # [M, levels]
    counted = gain[1:] if sample.box is None else gain
    floored = torch.where(counted.isfinite(), counted, OUTSIDE_FLOOR)
    return float(gain[0, -1]), floored.mean(0).tolist()


def _rank(distribution: PoseDistribution, log_density: float) -> float:
    """Return the mass of all leaves denser than the truth's."""
    if not math.isfinite(log_density):
        return 1.0
    denser = distribution.log_densities > log_density + 1e-6
    return min(float(distribution.probabilities.double()[denser].sum()), 1.0)


def _answers(
    distribution: PoseDistribution,
    center: np.ndarray,
    sample: Sample,
    target: EvaluationObject,
    equivalents: np.ndarray,
) -> dict:
    """Return errors of the single answers: the leading mode, the best mode, the densest leaf."""
    modes = distribution.modes()
    densest_R, densest_t = (value.double().numpy() for value in distribution.densest())
    errors = [
        pose_errors.rotation_error(mode.rotation.double().numpy(), equivalents) for mode in modes
    ]
    densest_error = pose_errors.rotation_error(densest_R, equivalents)
    R, t = (value.double().numpy() for value in distribution.mode())
    answers = {
        "rotation_error": pose_errors.rotation_error(R, equivalents),
        "densest_rotation_error": densest_error,
        "best_mode_error": min(errors, default=densest_error),
        "n_modes": len(modes),
        "mode_mass": modes[0].mass if modes else 0.0,
    }
    if sample.box is None:
        return answers
    return answers | {
        "axis_entropy": distribution.entropy_about_axis(torch.tensor([0.0, 0.0, 1.0])),
        "R": R.tolist(),
        "t": t.tolist(),
        **translation_errors((R, t), center, sample),
        **vertex_errors((R, t), sample, target),
    }


def translation_errors(
    estimate: pose_errors.Pose, center: np.ndarray, sample: Sample
) -> dict[str, float]:
    """Return the distances of bounding-sphere centres across and along the ray to the true one."""
    R, t = estimate
    truth = sample.rotation @ center + sample.translation
    error = R @ center + t - truth
    ray = truth / np.linalg.norm(truth)
    along = float(error @ ray)
    return {
        "lateral_error": float(np.linalg.norm(error - along * ray)),
        "depth_error": abs(along),
    }


def vertex_errors(
    estimate: pose_errors.Pose, sample: Sample, target: EvaluationObject
) -> dict[str, float]:
    """Return ADD, ADI and MSSD in metres, MSPD in pixels at a width of 640; empty without mesh."""
    if len(target.vertices) == 0:
        return {}
    truth, vertices = (sample.rotation, sample.translation), target.vertices
    mspd = pose_errors.mspd(estimate, truth, vertices, target.symmetries, sample.K)
    return {
        "add": pose_errors.add(estimate, truth, vertices),
        "adi": pose_errors.adi(estimate, truth, vertices),
        "mssd": pose_errors.mssd(estimate, truth, vertices, target.symmetries),
        "mspd": mspd * 640 / sample.image.shape[1],
    }


def summarise(records: list[dict], target: EvaluationObject, diameter: float) -> dict:
    """Compute means, medians and recalls over at least one image.

    Args:
        records: of `image_metrics`, all with the same keys; those of one "group", where there is
            one, are not independent.
        target: the object.
        diameter: of the bounding sphere, metres.

    Returns:
        Plain numbers and lists; [mean, standard error] for log-likelihoods. None where a number is
        not defined.
    """
    summary = _distribution_summary(records) | _rotation_summary(records)
    if "lateral_error" in records[0]:
        summary |= _translation_summary(records, diameter)
    if "mssd" in records[0]:
        summary |= _vertex_summary(records, target)
    if "admissible" in records[0]:
        keys = ("msd_precision", "msd_recall", "mpd_precision", "mpd_recall")
        summary["admissible_median"] = float(np.median(_column(records, "admissible")))
        summary |= {key: float(_column(records, key).mean()) for key in keys}
    return summary


def _distribution_summary(records: list[dict]) -> dict:
    gain = np.array([r["gain_per_level"] for r in records])  # [N, levels]
    uniform = _column(records, "uniform")
    groups = np.array([r.get("group", i) for i, r in enumerate(records)])
    per_level = [_mean(level, groups) for level in gain.T]
    per_level_pi2 = [_mean(level + uniform, groups) for level in gain.T]
    rank, entropy = _column(records, "truth_rank"), _column(records, "entropy")
    return {
        "images": len(records),
        "ll_uniform_zero": per_level[-1],
        "ll_pi2": per_level_pi2[-1],
        "ll_of_uniform_pi2": float(uniform.mean()),
        "ll_uniform_zero_per_level": per_level,
        "ll_pi2_per_level": per_level_pi2,
        "inside_box": float(_column(records, "inside_box").mean()),
        "coverage": {str(mass): float((rank < mass).mean()) for mass in COVERAGES},
        "entropy_mean": float(entropy.mean()),
        "entropy_visible_spearman": _spearman(entropy, _column(records, "visible_fraction")),
        "modes_mean": float(_column(records, "n_modes").mean()),
        "unexpanded_mass_mean": float(_column(records, "unexpanded_mass").mean()),
        "evaluations_mean": float(_column(records, "evaluations").mean()),
    }


def _rotation_summary(records: list[dict]) -> dict:
    error = _column(records, "rotation_error")
    return {
        "rotation_median_deg": float(np.median(error)),
        "densest_rotation_median_deg": float(np.median(_column(records, "densest_rotation_error"))),
        "best_mode_rotation_median_deg": float(np.median(_column(records, "best_mode_error"))),
        **{f"acc_{a}": float((error <= a).mean()) for a in ACCURACIES},
        "spread_mean_deg": float(_column(records, "spread").mean()),
    }


def _translation_summary(records: list[dict], diameter: float) -> dict:
    lateral = float(np.median(_column(records, "lateral_error")))
    return {
        "lateral_median_m": lateral,
        "lateral_median_of_diameter": lateral / diameter,
        "depth_median_m": float(np.median(_column(records, "depth_error"))),
        "axis_entropy_mean": float(_column(records, "axis_entropy").mean()),
    }


def _vertex_summary(records: list[dict], target: EvaluationObject) -> dict:
    add = _column(records, "adi" if len(target.symmetries) > 1 else "add")
    mssd = (_column(records, "mssd")[:, None] < MSSD_THRESHOLDS * target.diameter).mean()
    mspd = (_column(records, "mspd")[:, None] < MSPD_THRESHOLDS).mean()
    return {
        "add_recall_0.1d": float((add < 0.1 * target.diameter).mean()),
        "mssd_recall": float(mssd),
        "mspd_recall": float(mspd),
        "mssd_mspd_mean": float((mssd + mspd) / 2),
    }


def _column(records: list[dict], key: str) -> np.ndarray:
    return np.array([record[key] for record in records], dtype=float)


def _mean(values: np.ndarray, groups: np.ndarray) -> list[float | None]:
    """Return mean and standard error; values of one group are not independent, groups [N] are.

    None for the error of a single group.
    """
    mean = float(values.mean())
    index = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(index, values - mean)  # of each group
    n = len(sums)
    return [mean, math.sqrt(n / (n - 1) * float(sums @ sums)) / len(values) if n > 1 else None]


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return the rank correlation; None where one of them does not vary."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
