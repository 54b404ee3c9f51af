"""Logistic regression with even odds, and its calibration."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.presence import PresenceModel

_PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # on the squares of weights of standardised evidence
_FOLDS = 5
_LEAST = 20
"""Crops with the object, and without, that a fit needs."""


def fit(
    evidence: np.ndarray,
    there: np.ndarray,
    others: tuple[np.ndarray, np.ndarray] | None = None,
) -> PresenceModel:
    """Fit the weights; choose how small they are, and their scale, by crops not fitted on.

    Crops with and without the object count half each, however many there are.

    Args:
        evidence: [N, F].
        there: whether the object is in the crop, bool [N].
        others: both for other crops, such as those of photographs, that decide on the size and the
            scale of the weights; parts of the same ones, by cross-validation, by default.

    Returns:
        The model.

    Raises:
        InputError: too few crops with the object, or without.
    """
    for known in (there, *([others[1]] if others else [])):
        _require_enough(known)
    tried = []
    for penalty in _PENALTIES:
        weights, offset = _regress(evidence, there, penalty)
        if others is None:
            slope, shift, loss = _calibration(_unseen_odds(evidence, there, penalty), there)
        else:
            slope, shift, loss = _calibration(others[0] @ weights + offset, others[1])
        tried.append((loss, slope * weights, slope * offset + shift))
    _, weights, offset = min(tried, key=lambda each: each[0])
    return PresenceModel([float(f"{w:.5g}") for w in weights], round(float(offset), 5))


def log_odds(model: PresenceModel, evidence: np.ndarray) -> np.ndarray:
    """Compute a model's log odds, [N], of evidence [N, F]."""
    return evidence @ np.array(model.weights) + model.offset


def _unseen_odds(evidence: np.ndarray, there: np.ndarray, penalty: float) -> np.ndarray:
    """Return the log odds of crops by models that are fitted without them, [N]."""
    fold, odds = np.arange(len(there)) % _FOLDS, np.empty(len(there))
    for number in range(_FOLDS):
        rest = fold != number
        weights, offset = _regress(evidence[rest], there[rest], penalty)
        odds[~rest] = evidence[~rest] @ weights + offset
    return odds


def _calibration(odds: np.ndarray, there: np.ndarray) -> tuple[float, float, float]:
    """Return factor and shift of log odds [N] that fit best, and the log loss that is left."""
    sign, share = np.where(there, 1.0, -1.0), _shares(there)

    def loss(parameters: np.ndarray) -> float:
        return float(
            share @ np.logaddexp(0, -sign * (np.exp(parameters[0]) * odds + parameters[1]))
        )

    best = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-3, 3), (-9, 9)])
    return float(np.exp(best.x[0])), float(best.x[1]), float(best.fun)


def _regress(evidence: np.ndarray, there: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Return weights [F] and offset."""
    mean, scale = evidence.mean(0), evidence.std(0)
    scale[scale < 1e-6 * (1 + abs(mean))] = np.inf  # what hardly changes has no weight
    x, sign, share = (evidence - mean) / scale, np.where(there, 1.0, -1.0), _shares(there)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, margin = parameters[:-1], sign * (x @ parameters[:-1] + parameters[-1])
        slope = -share * sign * expit(-margin)
        value = share @ np.logaddexp(0, -margin) + penalty * weights @ weights
        return value, np.append(slope @ x + 2 * penalty * weights, slope.sum())

    start = np.zeros(x.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    weights = found[:-1] / scale
    return weights, float(found[-1] - weights @ mean)


def _shares(there: np.ndarray) -> np.ndarray:
    """Return how much each crop counts, [N]: half for the object, half for all else."""
    return np.where(there, 0.5 / there.sum(), 0.5 / (~there).sum())


def _require_enough(there: np.ndarray) -> None:
    have = int(there.sum()), int((~there).sum())
    if min(have) < _LEAST:
        raise InputError(
            f"presence needs {_LEAST} crops with the object and {_LEAST} without, got "
            f"{have[0]} and {have[1]}: use more images"
        )
