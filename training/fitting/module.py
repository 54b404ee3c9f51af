"""Lightning module: one step of the SpyroPose objective, schedule and validation."""

from typing import Any, cast

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from spyropose_ros.core import se3_grid
from spyropose_ros.core.network.keypoint_model import PoseModel
from spyropose_ros.core.network.precision import current_autocast, full_precision
from spyropose_ros.core.network.rotation_model import RotationModel
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from training.config import AugmentationConfig, OptimConfig
from training.fitting.augment import make_augmentation
from training.fitting.clock import TrainingClock
from training.fitting.objective import BatchRandom, ObjectiveConfig, TrainingGrid, level_losses
from training.fitting.schedule import schedule_of

_BEAM, _ROTATIONS_BEAM = 64, 512  # of the validation; rotations alone are cheap
_STEP_STRIDE = 7919  # apart from the seeds that people choose


class PoseModule(lightning.LightningModule):
    """Trains one model.

    Manual optimisation for the paper's memory trick: every level's loss is backwarded at once to
    the detached features, then one backward goes through the backbone. Peak memory holds one
    level's graph instead of all.

    A batch is a dict of items, see `training.data.source.Items`.

    Beyond the paper, an auxiliary convolution (not exported) reads the visible surface in object
    coordinates from the feature map: dense supervision that a network without pretrained weights
    learns from far faster than from poses alone (after SurfEmb, CVPR 2022, and Alignist, ECCV 2024,
    which use the CAD model in a similar way).

    Args:
        model: to train.
        diameter: of the object's bounding sphere, metres.
        objective: settings of the loss.
        optim: settings of the optimiser.
        augmentation: settings of the crops' changes.
        seed: of the grid offsets, samples, augmentation and dropout.
        symmetries: rotations that leave the object's looks unchanged, with identity, [S, 3, 3];
            for the auxiliary loss.
        clock: of a training by hours.

    Attributes:
        symmetries: those given, or the identity alone, [S, 3, 3].
    """

    symmetries: Tensor

    def __init__(
        self,
        model: PoseModel | RotationModel,
        diameter: float,
        objective: ObjectiveConfig,
        optim: OptimConfig,
        augmentation: AugmentationConfig,
        seed: int,
        symmetries: Tensor | None = None,
        clock: TrainingClock | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.diameter = None if model.config.rotation_only else diameter
        self.objective = objective
        self.optim = optim
        self.seed = seed
        self.clock = clock
        self.augment = make_augmentation(augmentation)
        self.surface = None
        if optim.surface_weight > 0:
            self.surface = nn.Conv2d(model.config.feature_channels, 4, 1)
        symmetries = torch.eye(3).unsqueeze(0) if symmetries is None else symmetries
        self.register_buffer("symmetries", symmetries, persistent=False)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Take one optimiser step; log the loss of each level."""
        mixed = current_autocast(self.device)
        with full_precision(self.device):
            self._step(batch, mixed)

    def _step(self, batch: dict[str, Tensor], mixed: torch.autocast) -> None:
        """Take one step; only the network computes in mixed precision, if the trainer does."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        random = self._seed_step()
        with torch.no_grad():
            crops = self.augment(batch["crop"].float().div(255))
        grid = TrainingGrid.draw(batch["estimate"], self.diameter, self.objective, random)

        with mixed:
            features = self.model.features(crops)
        detached = features.detach().float().requires_grad_()  # sums the gradients of all levels

        def score(level: int, rotations: Tensor, translations: Tensor) -> Tensor:
            with mixed:
                return self.model.logits(detached, batch["K_crop"], level, rotations, translations)

        depth = self.model.config.depth
        losses = []
        truth = batch["rotation"], batch["translation"]
        optimizer.zero_grad()
        for loss in level_losses(score, grid, *truth, depth, self.objective, random):
            self.manual_backward(loss)
            losses.append(loss.detach())
        if self.surface is not None:
            surface = surface_loss(self.surface(detached), batch["surface"], self.symmetries)
            self.manual_backward(self.optim.surface_weight * surface)
            self.log("train/surface", surface.detach())
        assert detached.grad is not None
        # The gradient is scaled already where mixed precision scales losses.
        features.backward(detached.grad.to(features))
        self._average_gradients()
        optimizer.step()
        cast(LRScheduler, self.lr_schedulers()).step()
        self.log("train/loss", torch.stack(losses).mean())
        self.log_dict({f"train/loss_{r}": loss for r, loss in enumerate(losses)})

    def _seed_step(self) -> BatchRandom:
        """Seed everything random by the step: a resumed run continues as the uninterrupted one."""
        seed = self.seed + _STEP_STRIDE * self.global_step
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        torch.manual_seed(seed + rank)  # augmentation and dropout
        return BatchRandom(torch.Generator(self.device).manual_seed(seed), rank, processes)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Switch DDP's own averaging off, which Lightning switches on after every step.

        It expects every parameter's gradient once a step; here the levels share parameters and are
        backwarded one by one.
        """
        if self.trainer.world_size > 1:
            model = cast(DistributedDataParallel, self.trainer.model)
            model.require_backward_grad_sync = False

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip; here the gradients of mixed precision are no longer scaled."""
        if self.optim.gradient_clip > 0:
            nn.utils.clip_grad_norm_(self.parameters(), self.optim.gradient_clip)

    def _average_gradients(self) -> None:
        """Average the gradients over all processes."""
        if self.trainer.world_size == 1:
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.trainer.world_size
        parts = flat.split([g.numel() for g in gradients])
        for gradient, mean in zip(gradients, parts, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the mean log-likelihood gain over the uniform distribution, per level."""
        if self.objective.last_level_only:
            return  # the search would go through heads that are not trained
        with full_precision(self.device):  # as the exported model computes
            self._validate(batch)

    def _validate(self, batch: dict[str, Tensor]) -> None:
        """Search the batch and log what is gained."""
        estimate = batch["estimate"]
        if self.diameter is None:
            box = TranslationBox.known(estimate)
        else:
            box = TranslationBox.from_view(estimate, self.diameter)
        features = self.model.features(batch["crop"].float().div(255))

        def score(level: int, rotations: Tensor, translations: Tensor) -> Tensor:
            return self.model.logits(features, batch["K_crop"], level, rotations, translations)

        beam = _BEAM if box.axes else _ROTATIONS_BEAM
        pyramid = search(score, box, self.model.config.depth, beam)
        truth = batch["rotation"].unsqueeze(1), batch["translation"].unsqueeze(1)
        ll = pyramid.log_density_per_level(*truth)[:, 0]  # [B, depth]
        gain = (ll - se3_grid.uniform_log_density(box).unsqueeze(1)).float()
        found = {f"val/ll_gain_{r}": value for r, value in enumerate(gain.mean(0))}
        found["val/ll_gain"] = gain[:, -1].mean()
        self.log_dict(found, batch_size=len(gain), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with linear warm-up and cosine decay to zero."""
        optim = self.optim
        encoder = [p for p in self.model.encoder.parameters() if p.requires_grad]
        own = {id(parameter) for parameter in self.model.encoder.parameters()}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in own]
        groups: list[dict[str, Any]] = [
            {"params": rest},
            {"params": encoder, "lr": optim.lr * optim.encoder_lr},
        ]
        # Fused, it would unscale the gradients of float16 itself: too late for the clipping.
        fused = not optim.precision.startswith("16")
        optimizer = torch.optim.AdamW(
            groups, lr=optim.lr, weight_decay=optim.weight_decay, fused=fused
        )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule_of(optim, self.clock))
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def surface_loss(predicted: Tensor, surface: Tensor, symmetries: Tensor) -> Tensor:
    """Compute the auxiliary loss: visibility and, where visible, object coordinates.

    Args:
        predicted: logit of the visibility and object coordinates, [B, 4, h, w].
        surface: as `training.data.crops.surface_map` makes it, [B, 4, h, w].
        symmetries: each image counts with the nearest of the equivalent maps, [S, 3, 3].

    Returns:
        Cross-entropy plus the weighted L1 distance of the visible pixels, a scalar.
    """
    visible = surface[:, :1]
    mask = F.binary_cross_entropy_with_logits(predicted[:, :1], visible)
    equivalent = torch.einsum("sji,bjhw->sbihw", symmetries, surface[:, 1:])
    distance = (predicted[:, 1:] - equivalent).abs().mean(2, keepdim=True) * visible
    nearest = distance.sum((2, 3, 4)).min(0).values  # [B]
    return mask + 5 * nearest.sum() / visible.sum().clamp_min(1)
