"""Visible surface discrepancy (VSD): how much of what is seen of an object is where it should be.

It needs a depth image of the scene and no symmetries: poses that look the same have no error.

Source: Hodan et al., BOP challenge 2020; Hodan et al., ECCVW 2016 (which part is visible).
"""

import numpy as np

VSD_TOLERANCES = np.arange(0.05, 0.51, 0.05)
"""By which distances may differ, over the diameter (the challenge's tau)."""

VSD_THRESHOLDS = np.arange(0.05, 0.51, 0.05)
"""Errors below which an estimate is right (the challenge's theta)."""

_BEHIND = 0.015
"""By which a visible surface may lie behind the measured one, metres (the challenge's delta)."""


def vsd(
    estimate: np.ndarray, truth: np.ndarray, scene: np.ndarray, K: np.ndarray, diameter: float
) -> np.ndarray:
    """Compare renderings of the object where it is visible.

    Args:
        estimate: rendered depth of the object in the estimated pose, metres, 0 elsewhere, [H, W].
        truth: the same in the true pose, [H, W].
        scene: measured depth, metres, 0 where nothing was measured, [H, W].
        K: intrinsics, [3, 3]. No skew.
        diameter: of the object, metres.

    Returns:
        Share of the pixels visible in either pose that are not visible in both or differ by more
        than the tolerance, for each of `VSD_TOLERANCES`, [10]; ones where nothing is visible.
    """
    rows, columns = np.nonzero((estimate > 0) | (truth > 0))
    x, y = (columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1]
    ray = np.sqrt(1 + x**2 + y**2)  # distance from the camera over depth
    estimated, true, measured = (depth[rows, columns] * ray for depth in (estimate, truth, scene))
    unknown = measured == 0  # counts as visible: sensors fail on shiny surfaces
    in_truth = (true > 0) & (unknown | (true - measured <= _BEHIND))
    # The object itself hides an estimate that lies too deep, which must not excuse the estimate.
    in_estimate = (estimated > 0) & (unknown | (estimated - measured <= _BEHIND) | in_truth)
    either = np.count_nonzero(in_truth | in_estimate)
    if either == 0:
        return np.ones(len(VSD_TOLERANCES))
    apart = np.abs(estimated - true)[in_truth & in_estimate] / diameter
    return 1 - (apart < VSD_TOLERANCES[:, None]).sum(1) / either
