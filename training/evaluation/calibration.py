"""Whether probabilities are true: bins and the expected calibration error."""

import numpy as np


def calibration_bins(
    probabilities: np.ndarray, true: np.ndarray, bins: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Divide cases by their probabilities into bins of equal weight.

    Args:
        probabilities: [N].
        true: what they are probabilities of, bool [N].
        bins: largest number of them; those without a case are left out.
        weights: of the cases, [N]; equal ones by default.

    Returns:
        Share of all weight, mean probability and share of true cases of each bin, [B, 3].
    """
    order = np.argsort(probabilities, kind="stable")
    probabilities, true = probabilities[order], true[order]
    weights = np.ones(len(order)) if weights is None else weights[order]
    weights = weights / weights.sum()
    places = np.minimum((bins * (weights.cumsum() - weights / 2)).astype(int), bins - 1)
    found = []
    for place in np.unique(places):
        inside = weights * (places == place)
        total = inside.sum()
        found.append((total, inside @ probabilities / total, inside @ true / total))
    return np.array(found).reshape(-1, 3)


def calibration_error(
    probabilities: np.ndarray, true: np.ndarray, bins: int, weights: np.ndarray | None = None
) -> float:
    """Compute the expected calibration error.

    Args:
        probabilities: [N], at least one.
        true: what they are probabilities of, bool [N].
        bins: largest number of them, see `calibration_bins`.
        weights: of the cases, [N]; equal ones by default.

    Returns:
        Mean distance of probability and share.
    """
    total, mean, share = calibration_bins(probabilities, true, bins, weights).T
    return float(total @ abs(mean - share))
