"""Settings of a search, apart from what carries it out: fast to import."""

from dataclasses import dataclass

CROPS = ((1.0, 0.0), (0.9, 0.0), (1.1, 0.0), (1.0, -7.0), (1.0, 7.0))
"""Size of what a crop shows over the usual, and its turn in degrees."""


@dataclass(frozen=True)
class SearchSettings:
    """How thoroughly to search.

    Attributes:
        beam: most cells expanded per level and detection.
        mass_tolerance: mass that may stay at coarse levels; 0 is taken for several views.
        depth: levels to search, at most the model's; None uses all.
        exhaustive: score every cell of the last level instead, as a baseline.
        crops: of each detection, seen a little nearer, farther and turned (`CROPS`), whose logits
            are averaged: the time of so many searches for steadier answers.
        half_precision: let the network multiply in float16 where that is faster: on a GPU.
        cuda_graphs: on a GPU, launch the search as a whole; for a fixed beam (no tolerance) only.

    Raises:
        ValueError: fewer than one crop, or more than there are, or graphs without a fixed beam.
    """

    beam: int = 512
    mass_tolerance: float = 0.05
    depth: int | None = None
    exhaustive: bool = False
    crops: int = 1
    half_precision: bool = True
    cuda_graphs: bool = False

    def __post_init__(self):
        if not 1 <= self.crops <= len(CROPS):
            raise ValueError(f"crops must be 1 to {len(CROPS)}, got {self.crops}")
        if self.cuda_graphs and (self.mass_tolerance > 0 or self.exhaustive):
            raise ValueError("cuda_graphs need a fixed beam: set mass_tolerance to 0")
