"""The search as published, in plain PyTorch: the correctness twin of everything faster.

Float32, channels first, stored rotation tables, every pose projected on its own, a fixed beam and
one softmax per level. Written to be read; `spyropose_ros.core` is what runs.

Source: Haugaard et al., ICCVW 2023, section 3.
"""

import copy
import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from spyropose_ros.core import so3_grid
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.pyramid import Level, PosePyramid
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox

MAX_DEPTH = 7
"""The tables of 7 levels take 777 MB; an eighth alone would take 5.4 GB."""

_ROTATIONS_AT_ONCE = 1 << 18  # while a table is filled
_OCTANTS = torch.tensor([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])  # [8, 3]


class ReferenceSearch:
    """Pose distributions of one object with a network of keypoints.

    Args:
        bundle: the trained model; a copy of its network is used.
        depth: number of levels; all of the model's by default.
        beam: cells expanded per level.
        device: where to run; where the model is by default.

    Raises:
        InputError: more levels than the model has or than tables are stored for.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        depth: int | None = None,
        beam: int = 512,
        device: str | torch.device | None = None,
    ):
        depth = depth or bundle.model.config.depth
        available = min(bundle.model.config.depth, MAX_DEPTH)
        if not 1 <= depth <= available:
            raise InputError(f"depth must be 1 to {available} here, got {depth}")
        self.depth = depth
        self.beam = beam
        self.device = torch.device(device or next(bundle.model.parameters()).device)
        model = copy.deepcopy(bundle.model).float().eval()
        # PyTorch's own annotations lack the memory format.
        self.model = model.to(self.device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.temperatures = bundle.temperatures
        self.tables = [rotation_table(level, self.device) for level in range(depth)]
        self.octants = _OCTANTS.to(self.device)

    @property
    def table_bytes(self) -> int:
        """Memory of the rotation tables."""
        return sum(table.nbytes for table in self.tables)

    @torch.inference_mode()
    def search(self, crops: Tensor, K_crop: Tensor, box: TranslationBox) -> PosePyramid:
        """Run backbone and search; see `search_features`.

        Args:
            crops: RGB in [0, 1], [B, 3, H, W] of the model's resolution.
            K_crop: their intrinsics, [B, 3, 3].
            box: region of translations of the bounding-sphere centre, [B].

        Returns:
            The pyramid, with all levels.
        """
        return self.search_features(self.features(crops), K_crop, box)

    @torch.inference_mode()
    def features(self, crops: Tensor) -> Tensor:
        """Map crops [B, 3, H, W] in [0, 1] to feature maps [B, C, h, w]."""
        return self.model.extractor(crops.contiguous())

    @torch.inference_mode()
    def search_features(self, features: Tensor, K_crop: Tensor, box: TranslationBox) -> PosePyramid:
        """Search without the backbone.

        Args:
            features: of the crops, [B, C, h, w].
            K_crop: intrinsics of the crops, [B, 3, 3].
            box: region of translations of the bounding-sphere centre, [B].

        Returns:
            The pyramid, with all levels.

        Raises:
            InputError: if the translations are known.
        """
        if box.axes != 3:
            raise InputError("the reference searches translations, too")
        features = features.float().contiguous()
        batch = len(box)
        # The base level: 72 rotations, each with the 8 octants of the box.
        rotation = torch.arange(so3_grid.BASE_CELLS, device=self.device)
        rotation = rotation.repeat_interleave(8).expand(batch, -1)  # [B, N]
        position = self.octants.repeat(so3_grid.BASE_CELLS, 1).expand(batch, -1, -1)  # [B, N, 3]
        mass = torch.zeros((batch, 1), device=self.device)  # log mass to share; at first all

        levels = []
        for level in range(self.depth):
            poses = self.tables[level][rotation], _centres(box, position, level)
            log_p = self.logits(features, K_crop, level, *poses).log_softmax(1) + mass  # [B, N]
            cells = Cells(level, rotation, position)
            expanded = torch.zeros_like(log_p, dtype=torch.bool)
            if level + 1 < self.depth:
                top, index = log_p.topk(min(self.beam, log_p.shape[1]), 1)  # [B, K]
                expanded.scatter_(1, index, True)
                mass = top.logsumexp(1, keepdim=True)  # goes to the children of the expanded cells
                rotation, position = self._children(
                    rotation.gather(1, index),
                    position.gather(1, index.unsqueeze(2).expand(-1, -1, 3)),
                )
            levels.append(Level(cells, log_p, expanded))
        return PosePyramid(box, levels)

    def logits(
        self, features: Tensor, K_crop: Tensor, level: int, rotations: Tensor, translations: Tensor
    ) -> Tensor:
        """Compute calibrated logits of poses.

        Args:
            features: of the crops, [B, C, h, w].
            K_crop: intrinsics of the crops, [B, 3, 3].
            level: selects the head.
            rotations: object to camera, [B, N, 3, 3].
            translations: of the bounding-sphere centre, metres, [B, N, 3].

        Returns:
            [B, N].
        """
        head, side = self.model.heads[level], self.model.config.crop_resolution
        embedded = head.embed(features)  # [B, E, h, w]
        # Where the P keypoints would appear
        points = self.model.keypoints @ rotations.mT + translations.unsqueeze(2)  # [B, N, P, 3]
        image = points @ K_crop.unsqueeze(1).mT  # [B, N, P, 3]
        pixels = image[..., :2] / image[..., 2:]  # [B, N, P, 2]
        grid = (2 * pixels + 1) / side - 1  # -1 and 1 are the image's edges
        # The features there
        values = F.grid_sample(embedded, grid, padding_mode="border", align_corners=False)
        values = values.permute(0, 2, 3, 1)  # [B, N, P, E]
        unseen = (grid.abs() > 1).any(-1, keepdim=True) | (points[..., 2:] <= 0)
        values = torch.where(unseen, self.model.out_of_image, values)
        logits = head.mlp(values.flatten(2).flatten(0, 1))  # [B * N, 1]
        return logits.view(len(features), -1) / self.temperatures[level]

    def _children(self, rotation: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Split cells [B, K], [B, K, 3] into 8 rotations x 8 octants, [B, 64 K], [B, 64 K, 3]."""
        batch, k = rotation.shape
        rotation = 8 * rotation.unsqueeze(2) + torch.arange(8, device=self.device)  # [B, K, 8]
        position = 2 * position.unsqueeze(2) + self.octants  # [B, K, 8, 3]
        rotation = rotation.unsqueeze(3).expand(batch, k, 8, 8)
        position = position.unsqueeze(2).expand(batch, k, 8, 8, 3)
        return rotation.reshape(batch, -1), position.reshape(batch, -1, 3)


def _centres(box: TranslationBox, position: Tensor, level: int) -> Tensor:
    """Return the centres of translation cells in metres, int64 [B, N, 3] -> [B, N, 3]."""
    offset = (position.float() + 0.5) / 2 ** (level + 1) - 0.5  # box units, from its centre
    return box.center.unsqueeze(1) + offset @ box.basis.mT


@functools.lru_cache(maxsize=MAX_DEPTH)
def rotation_table(level: int, device: torch.device) -> Tensor:
    """Tabulate the rotations of all cells of a level, [72 * 8^level, 3, 3]: 36 bytes each."""
    count = so3_grid.cell_count(level)
    table = torch.empty((count, 3, 3), device=device)
    for index in torch.arange(count, device=device).split(_ROTATIONS_AT_ONCE):
        table[index[0] : index[-1] + 1] = so3_grid.rotations(index, level)
    return table
