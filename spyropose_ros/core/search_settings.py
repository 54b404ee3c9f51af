"""Settings of a search, apart from what carries it out: fast to import."""

from dataclasses import dataclass

from spyropose_ros.core.errors import InputError

CROPS = ((1.0, 0.0), (0.9, 0.0), (1.1, 0.0), (1.0, -7.0), (1.0, 7.0))
"""Size of what a crop shows over the usual, and its roll in degrees."""


@dataclass(frozen=True)
class SearchSettings:
    """How thoroughly to search.

    Attributes:
        beam: most cells expanded per level and detection.
        mass_tolerance: mass that may stay at coarse levels; 0 is taken for several views.
        depth: levels to search, at most the model's; None uses all.
        exhaustive: score every cell of the last level instead, as a baseline.
        crops: of each detection, seen a little nearer, farther and rolled (`CROPS`), whose logits
            are averaged: the time of so many searches for steadier answers.

    Raises:
        InputError: fewer than one crop, or more than there are.
    """

    beam: int = 512
    mass_tolerance: float = 0.05
    depth: int | None = None
    exhaustive: bool = False
    crops: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.crops <= len(CROPS):
            raise InputError(f"crops must be 1 to {len(CROPS)}, got {self.crops}")
