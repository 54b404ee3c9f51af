"""From a detector's scores to probabilities: Platt scaling on held-out renderings."""

import logging

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from training.detector.matching import Matches

log = logging.getLogger(__name__)

_LEAST = 20
"""Boxes of each kind, right and wrong, that a calibration needs."""

_EDGE = 1e-6  # of scores: their logits are finite


def fit_calibration(matches: Matches) -> tuple[float, float]:
    """Fit slope and offset of the logits to which boxes have found an object.

    Args:
        matches: of held-out images, with uncalibrated scores.

    Returns:
        Slope, positive so that the order of the boxes stays, and offset; 1 and 0 where there are
        too few boxes to tell.
    """
    found = matches.found
    if min(found.sum(), (~found).sum()) < _LEAST:
        log.warning(
            "WARNING: only %d right and %d wrong boxes: the scores stay uncalibrated",
            found.sum(),
            (~found).sum(),
        )
        return 1.0, 0.0
    x, sign = _logits(matches.scores), np.where(found, 1.0, -1.0)

    def loss(parameters: np.ndarray) -> float:
        slope, offset = np.exp(parameters[0]), parameters[1]
        return float(np.logaddexp(0, -sign * (slope * x + offset)).mean())

    slope, offset = minimize(loss, np.zeros(2), method="L-BFGS-B").x
    return float(np.exp(slope)), float(offset)


def calibrated(scores: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """Return probabilities of scores, as `Detector.detect` computes them."""
    return expit(slope * _logits(scores) + offset)


def _logits(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(scores, _EDGE, 1 - _EDGE))
