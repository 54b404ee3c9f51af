"""Whether the object is there at all: what a bundle keeps for it, and what a detector adds.

The search always answers: its masses sum to 1 for a crop of anything. This is the missing part, a
logistic model of the feature map as a whole (`network.evidence`). It does not depend on the search,
nor on its settings or priors. Needs no PyTorch and is fast to import.
"""

import math
from dataclasses import dataclass
from typing import Any

from spyropose_ros.core.errors import InputError

STATISTICS = 2
"""Of each channel of the feature map."""

_LARGEST = 1e6
_TRUST = (0.05, 0.95)  # detectors differ in what their scores mean: none decides alone


@dataclass(frozen=True)
class PresenceModel:
    """A logistic model; before it looks, the object is there with probability 1/2.

    Attributes:
        weights: of the statistics of `network.evidence`, in their order.
        offset: log odds where all statistics are 0.

    Raises:
        InputError: numbers that are not finite, or far too large.
    """

    weights: list[float]
    offset: float

    def __post_init__(self) -> None:
        numbers = [*self.weights, self.offset]
        plain = all(type(number) in (int, float) for number in numbers)
        if not plain or not all(abs(number) <= _LARGEST for number in numbers):  # nor NaN
            raise InputError("presence needs finite weights and a finite offset")

    @classmethod
    def from_dict(cls, values: Any, channels: int) -> "PresenceModel":
        """Read from a bundle's config.json.

        Args:
            values: what stands there.
            channels: of the feature map.

        Returns:
            The model.

        Raises:
            InputError: not the weights that a map of so many channels needs.
        """
        count = STATISTICS * channels
        whole = isinstance(values, dict) and values.keys() == {"weights", "offset"}
        if not whole or not isinstance(values["weights"], list) or len(values["weights"]) != count:
            raise InputError(f"presence needs {count} weights and an offset")
        return cls(**values)


def with_score(presence: float, score: float) -> float:
    """Combine a probability that was found without a detector with the detector's score.

    By Bayes' rule, the score taken for the probability before the network has looked.

    Args:
        presence: as the network finds it with even odds before; NaN where unknown.
        score: of the detector, taken as 0.05 or 0.95 beyond these. NaN, 0 or less, and more than 1
            say nothing: the presence stays.

    Returns:
        The probability with both; NaN where the presence is.
    """
    if math.isnan(presence) or not 0 < score <= 1:
        return presence
    prior = min(max(score, _TRUST[0]), _TRUST[1])
    there, not_there = prior * presence, (1 - prior) * (1 - presence)
    return there / (there + not_there)
