"""The search of a fixed beam as one launch on a GPU."""

from collections.abc import Callable

from torch import Tensor

from spyropose_ros.core.kernels.cuda_graphs import Graphed
from spyropose_ros.core.pyramid import Level, PosePyramid
from spyropose_ros.core.scorer import NetworkScorer
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.search import check, grow
from spyropose_ros.core.translation_grid import TranslationBox


class CapturedSearch:
    """Backbone and search of a batch of crops, captured in CUDA graphs.

    Args:
        scorer_of: crops [B, V, 3, H, W] and their intrinsics [B, V, 3, 3] -> scorer.
        presence_of: scorer -> `PosePyramid.presence`.
        depth: as for `search.search`.
        beam: likewise.
    """

    def __init__(
        self,
        scorer_of: Callable[[Tensor, Tensor], NetworkScorer],
        presence_of: Callable[[NetworkScorer], Tensor | None],
        depth: int,
        beam: int,
    ):
        self._scorer_of = scorer_of
        self._presence_of = presence_of
        self._depth = depth
        self._beam = beam
        self._graphed = Graphed(self._levels)

    def __call__(self, crops: Tensor, K_crop: Tensor, box: TranslationBox) -> PosePyramid:
        """Search boxes [B]; raises as `search.search` does."""
        flat = iter(self._graphed(crops, K_crop, box.center, box.basis))
        levels = []
        for r in range(self._depth):
            cells = Cells(r, next(flat), next(flat))
            levels.append(Level(cells, next(flat), next(flat)))
        check(levels)
        return PosePyramid(box, levels, next(flat, None))

    def _levels(
        self, crops: Tensor, K_crop: Tensor, center: Tensor, basis: Tensor
    ) -> tuple[Tensor, ...]:
        """Search, and return the tensors of the levels, one level after the other, and presence."""
        scorer, box = self._scorer_of(crops, K_crop), TranslationBox(center, basis)
        flat: list[Tensor] = []
        for level in grow(scorer, box, self._depth, self._beam):
            cells = level.cells
            flat += [cells.rotation_index, cells.position_index]
            flat += [level.log_probability, level.expanded]
        presence = self._presence_of(scorer)
        return tuple(flat if presence is None else [*flat, presence])
