"""The visible surface's discrepancy, computed by hand and pixel by pixel."""

import numpy as np
import pytest

from training.evaluation.surface_discrepancy import VSD_TOLERANCES, vsd

K = np.array([[1e4, 0, 10], [0, 1e4, 10], [0, 0, 1]])  # so narrow that depth is distance
DIAMETER = 0.1


def plate(columns, depth):
    """A rendering of a plate that fills some columns of an image of 20 x 20 pixels."""
    image = np.zeros((20, 20), np.float32)
    image[:, columns] = depth
    return image


TRUTH = plate(slice(0, 10), 1.0)
UNKNOWN = np.zeros_like(TRUTH)


@pytest.mark.parametrize(
    ("estimate", "scene", "expected"),
    [
        pytest.param(TRUTH, UNKNOWN, [0.0] * 10, id="the truth"),
        # 5 columns in both, 15 in either
        pytest.param(plate(slice(5, 15), 1.0), UNKNOWN, [2 / 3] * 10, id="beside it"),
        pytest.param(UNKNOWN, UNKNOWN, [1.0] * 10, id="nothing"),
        # 17 mm are 0.17 of the diameter, more than 0.05, 0.1 and 0.15
        pytest.param(plate(slice(0, 10), 1.017), TRUTH, [1.0] * 3 + [0.0] * 7, id="behind it"),
        # As wide and deeper, beside the truth and in front of it in the half that is not hidden.
        pytest.param(
            plate(slice(0, 10), 1.017),
            plate(slice(0, 5), 0.5) + plate(slice(5, 10), 1.0),
            [1.0] * 3 + [0.0] * 7,
            id="half hidden",
        ),
        # What hides columns 5 to 9 hides the difference, too.
        pytest.param(
            plate(slice(0, 5), 1.0),
            plate(slice(0, 5), 1.0) + plate(slice(5, 10), 0.5),
            [0.0] * 10,
            id="difference hidden",
        ),
        pytest.param(TRUTH, plate(slice(0, 10), 0.98), [1.0] * 10, id="all hidden"),
        pytest.param(TRUTH, plate(slice(0, 10), 0.99), [0.0] * 10, id="within the tolerance"),
    ],
)
def test_cases_computed_by_hand(estimate, scene, expected):
    np.testing.assert_allclose(vsd(estimate, TRUTH, scene, K, DIAMETER), expected, atol=1e-9)


def plain(estimate, truth, scene, K, diameter):
    """Go through the pixels, and compare points of the rays."""
    errors = []
    for tolerance in VSD_TOLERANCES:
        wrong = total = 0
        for row, column in np.ndindex(truth.shape):
            ray = np.linalg.inv(K) @ [column, row, 1]
            e, t, s = (np.linalg.norm(d[row, column] * ray) for d in (estimate, truth, scene))
            in_truth = t > 0 and (s == 0 or t <= s + 0.015)
            in_estimate = e > 0 and (s == 0 or e <= s + 0.015 or in_truth)
            total += in_truth or in_estimate
            if in_truth and in_estimate:
                wrong += abs(e - t) / diameter >= tolerance
            else:
                wrong += in_truth or in_estimate
        errors.append(wrong / total)
    return errors


def test_it_agrees_with_the_plain_twin():
    rng = np.random.default_rng(0)
    wide = np.array([[15.0, 0, 9], [0, 14, 7], [0, 0, 1]])
    estimate, truth, scene = (
        rng.uniform(0.95, 1.05, (16, 20)) * (rng.random((16, 20)) < share)
        for share in (0.7, 0.7, 0.8)
    )
    found = vsd(estimate, truth, scene, wide, DIAMETER)
    np.testing.assert_allclose(found, plain(estimate, truth, scene, wide, DIAMETER), atol=1e-12)
    assert 0 < found[-1] < found[0] < 1
