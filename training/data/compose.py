"""From views to crops: occlusion, the simulated detector, the crop and the surface map, batched."""

import math

import torch
from torch import Tensor, nn

from spyropose_ros.core import camera
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.scenes.chance import Chance
from spyropose_ros.scenes.compositing import Painter
from spyropose_ros.scenes.detector import noisy_boxes
from training.data.crops import (
    PAPER_LIMIT,
    PAPER_SIGMA,
    miscalibrated,
    surface_map,
    within_ball,
)
from training.data.source import CropSettings

_TRIES = 8  # of the noise, until the truth lies in the ball


class Composer(nn.Module):
    """Composes the crops of a batch of views on the batch's device.

    What becomes of a view depends on the view and its random numbers only.

    Args:
        painter: gives views an appearance.
        size_ratio: apparent-size ratio of the object.
        crop: settings.

    Attributes:
        K: intrinsics of the camera, [3, 3].
    """

    K: Tensor

    def __init__(self, painter: Painter, size_ratio: float, crop: CropSettings):
        super().__init__()
        self.painter = painter
        self.diameter = float(painter.model.diameter)
        self.size_ratio = size_ratio
        self.crop = crop
        K = torch.from_numpy(painter.settings.K).float()
        self.register_buffer("K", K, persistent=False)

    @torch.no_grad()
    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compose.

        Args:
            batch: views as `training.data.rendered.ViewItems` gives them.

        Returns:
            A batch of items, see `training.data.source.Items`.
        """
        self.to(batch["K"].device)
        chance = Chance(batch["chance"])
        truth = batch["translation"]

        def acceptable(visible: Tensor, index: Tensor) -> Tensor:
            return self._found(visible, batch["K"][index], truth[index])

        occluders, visible = self.painter.occlude(batch, acceptable, chance)
        estimate = self._estimate(visible, batch["K"], truth, chance)
        crop = self.crop
        K_crop = self._intrinsics(estimate, batch["roll"], chance)
        image = self.painter.paint(batch, occluders, K_crop, chance)
        item = {
            "crop": image.mul_(255).round_().byte(),
            "K_crop": K_crop,
            "estimate": estimate,
            "rotation": batch["rotation"],
            "translation": truth,
        }
        if crop.looks.miscalibration > 0:
            errors = chance.normal((3,)) * crop.looks.miscalibration
            item["K_crop"] = miscalibrated(K_crop, crop.resolution, errors)
        if crop.surface:
            depth = batch["depth"] * visible
            pose = batch["rotation"], truth
            item["surface"] = surface_map(depth, batch["K"], *pose, self.diameter, K_crop, crop)
        return item

    def _intrinsics(self, estimate: Tensor, roll: Tensor, chance: Chance) -> Tensor:
        """Return those of the crops, [B, 3, 3]."""
        crop = self.crop
        padding: Tensor | float = crop.padding
        if crop.zoom > 0:
            padding = padding * torch.exp2(chance.uniform(-1, 1) * math.log2(1 + crop.zoom))
        K_crop = camera.crop_intrinsics(
            estimate, self.diameter, self.K, crop.resolution, padding, roll
        )
        if crop.zoom > 0:
            K_crop[:, :2, 2] += chance.uniform(-crop.zoom, crop.zoom, (2,)) * crop.resolution / 2
        return K_crop

    def _found(self, visible: Tensor, K: Tensor, truth: Tensor) -> Tensor:
        """Tell whether a perfect box around the visible part leads to the truth, bool [N]."""
        if self.crop.box_noise is None:
            return torch.ones(len(visible), dtype=torch.bool, device=visible.device)
        return within_ball(truth, self._from_boxes(self._boxes(visible, K)), self.diameter)

    def _boxes(self, visible: Tensor, K: Tensor) -> Tensor:
        """Box masks [N, S, S] of windows with intrinsics K tightly, in camera pixels [N, 4]."""
        ends = []
        pixels = visible.byte()
        for lines in (pixels.amax(1), pixels.amax(2)):  # columns, rows
            first = lines.argmax(1) - 0.5
            last = lines.shape[1] - lines.flip(1).argmax(1) - 0.5
            ends.append(torch.stack((first, last), 1))
        to_camera = self.K @ torch.linalg.inv(K)
        edges = torch.stack(ends, 1)  # [N, axis, end]
        edges = edges * to_camera.diagonal(dim1=1, dim2=2)[:, :2, None] + to_camera[:, :2, 2:]
        return edges.mT.flatten(1)

    def _from_boxes(self, boxes: Tensor) -> Tensor:
        return camera.translation_from_boxes(boxes, self.K, self.diameter, self.size_ratio)

    def _estimate(self, visible: Tensor, K: Tensor, truth: Tensor, chance: Chance) -> Tensor:
        """Simulate the detector, metres, [B, 3]: the first try near enough to the truth.

        Where there is none, the box around what is visible counts without noise, or the truth.
        """
        n, noise = len(truth), self.crop.box_noise
        if noise is None:
            offset = PAPER_SIGMA * chance.normal((_TRIES, 3))
            box = TranslationBox.from_view(truth, self.diameter)
            tries, exact = box.from_coordinates(offset + 0.5).flatten(0, 1), truth
            good = offset.norm(dim=2) < PAPER_LIMIT
        else:
            boxes = self._boxes(visible, K)
            tries = noisy_boxes(boxes, _TRIES, chance, noise).flatten(0, 1)
            tries, exact = self._from_boxes(tries), self._from_boxes(boxes)
            again = truth.repeat_interleave(_TRIES, 0)
            good = within_ball(again, tries, self.diameter)
            near = within_ball(truth, exact, self.diameter)
            exact = torch.where(near.unsqueeze(1), exact, truth)
        tries, good = tries.view(n, _TRIES, 3), good.view(n, _TRIES)
        first = tries[torch.arange(n, device=truth.device), good.byte().argmax(1)]
        return torch.where(good.any(1, keepdim=True), first, exact)
