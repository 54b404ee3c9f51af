"""Lightning module: one step of the SpyroPose objective, schedule and validation."""

import lightning
import torch
from kornia.augmentation import AugmentationSequential, ColorJitter, RandomErasing
from torch import Tensor, nn
from torch.nn import functional as F

from spyropose_ros.core import se3_grid
from spyropose_ros.core.model import PoseModel
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from training.config import OptimConfig
from training.objective import ObjectiveConfig, TrainingGrid, level_losses

_VALIDATION_BEAM = 64


class PoseModule(lightning.LightningModule):
    """Trains one `PoseModel`.

    Manual optimisation for the paper's memory trick: every level's loss is backwarded at once to
    the detached feature map, then one backward goes through the backbone. Peak memory holds one
    level's graph instead of all.

    A batch is a dict: crop uint8 [B, 3, H, W], K_crop [B, 3, 3], estimate [B, 3], rotation
    [B, 3, 3], translation [B, 3] (bounding-sphere centre), surface [B, 4, h, w] (see
    `training.data.rendered.surface_map`).

    Beyond the paper, an auxiliary convolution (not exported) reads the visible surface in object
    coordinates from the feature map: dense supervision that a network without pretrained weights
    learns from far faster than from poses alone (after SurfEmb, CVPR 2022, and Alignist, ECCV 2024,
    which use the CAD model in a similar way).

    Args:
        model: to train.
        diameter: of the object's bounding sphere, metres.
        objective: settings of the loss.
        optim: settings of the optimiser.
        seed: of the grid offsets and samples.
        symmetries: rotations that leave the object's looks unchanged, with identity, [S, 3, 3].
    """

    def __init__(
        self,
        model: PoseModel,
        diameter: float,
        objective: ObjectiveConfig,
        optim: OptimConfig,
        seed: int,
        symmetries: Tensor | None = None,
    ):
        super().__init__()
        self.register_buffer(
            "symmetries", torch.eye(3)[None] if symmetries is None else symmetries, False
        )
        self.automatic_optimization = False
        self.model = model
        self.diameter = diameter
        self.objective = objective
        self.optim = optim
        self.seed = seed
        self.surface = nn.Conv2d(model.config.feature_channels, 4, 1)
        self.augment = AugmentationSequential(
            ColorJitter(0.3, 0.3, 0.3, 0.03, p=0.8),
            RandomErasing(scale=(0.01, 0.06), p=0.2, value=0.5),
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """One optimiser step; logs the loss of each level."""
        optimizer = self.optimizers()
        crops = batch["crop"].float().div(255)
        if self.optim.augment:
            with torch.no_grad():
                crops = self.augment(crops)
        # Seeded by the step, so that a resumed run continues as the uninterrupted one.
        generator = torch.Generator(self.device).manual_seed(self.seed + 7919 * self.global_step)
        grid = TrainingGrid.draw(batch["estimate"], self.diameter, self.objective, generator)

        features = self.model.features(crops)
        detached = features.detach().requires_grad_()

        def score(level: int, rotations: Tensor, translations: Tensor) -> Tensor:
            return self.model.logits(detached, batch["K_crop"], level, rotations, translations)

        depth = self.model.config.depth
        losses = []
        truth = batch["rotation"], batch["translation"]
        optimizer.zero_grad()
        for loss in level_losses(score, grid, *truth, depth, self.objective, generator):
            self.manual_backward(loss)
            losses.append(loss.detach())
        if self.optim.surface_weight > 0:
            surface = surface_loss(self.surface(detached), batch["surface"], self.symmetries)
            self.manual_backward(self.optim.surface_weight * surface)
            self.log("train/surface", surface.detach())
        self.manual_backward(features, gradient=detached.grad)
        if self.optim.gradient_clip > 0:
            self.clip_gradients(optimizer, self.optim.gradient_clip, "norm")
        optimizer.step()
        self.lr_schedulers().step()
        self.log("train/loss", torch.stack(losses).mean(), prog_bar=True)
        self.log_dict({f"train/loss_{r}": loss for r, loss in enumerate(losses)})

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Mean log-likelihood gain over the uniform box, per level."""
        box = TranslationBox.from_view(batch["estimate"], self.diameter)
        features = self.model.features(batch["crop"].float().div(255))

        def score(level: int, rotations: Tensor, translations: Tensor) -> Tensor:
            return self.model.logits(features, batch["K_crop"], level, rotations, translations)

        pyramid = search(score, box, self.model.config.depth, beam=_VALIDATION_BEAM)
        truth = batch["rotation"].unsqueeze(1), batch["translation"].unsqueeze(1)
        ll = pyramid.log_density_per_level(*truth)[:, 0]  # [B, depth]
        gain = ll - se3_grid.uniform_log_density(box).unsqueeze(1)
        for r, value in enumerate(gain.mean(0)):
            self.log(f"val/ll_gain_{r}", value.float(), batch_size=len(gain))
        self.log("val/ll_gain", gain[:, -1].mean().float(), prog_bar=True, batch_size=len(gain))

    def configure_optimizers(self) -> dict:
        """AdamW, linear warm-up, cosine to zero."""
        encoder = [p for p in self.model.extractor.encoder.parameters() if p.requires_grad]
        known = {id(p) for p in self.model.extractor.encoder.parameters()}
        groups = [
            {"params": [p for p in self.parameters() if id(p) not in known]},
            {"params": encoder, "lr": self.optim.lr * self.optim.encoder_lr},
        ]
        optimizer = torch.optim.AdamW(
            groups, lr=self.optim.lr, weight_decay=self.optim.weight_decay
        )
        warmup = torch.optim.lr_scheduler.LinearLR(
            optimizer, 1e-3, total_iters=self.optim.warmup_steps
        )
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, max(1, self.optim.max_steps - self.optim.warmup_steps)
        )
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimizer, [warmup, cosine], [self.optim.warmup_steps]
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def surface_loss(predicted: Tensor, surface: Tensor, symmetries: Tensor) -> Tensor:
    """Visibility (cross-entropy) and object coordinates (L1 where visible).

    Args:
        predicted: [B, 4, h, w].
        surface: as `training.data.rendered.surface_map` makes it, [B, 4, h, w].
        symmetries: each image counts with the nearest of the equivalent maps, [S, 3, 3].
    """
    visible = surface[:, :1]
    mask = F.binary_cross_entropy_with_logits(predicted[:, :1], visible)
    equivalent = torch.einsum("sji,bjhw->sbihw", symmetries, surface[:, 1:])
    distance = (predicted[:, 1:] - equivalent).abs().mean(2, keepdim=True) * visible
    nearest = distance.sum((2, 3, 4)).min(0).values  # [B]
    return mask + 5 * nearest.sum() / visible.sum().clamp_min(1)
