"""Lightning module: one step of a detector's training, and its validation."""

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from spyropose_ros.detector.detector import frame
from spyropose_ros.detector.network import DetectionNetwork, Prediction, cells
from training.config import AugmentationConfig, OptimConfig
from training.detector.images import IGNORED
from training.detector.losses import DetectionLoss, detection_loss
from training.fitting.augment import make_augmentation
from training.fitting.clock import TrainingClock
from training.fitting.schedule import schedule_of

_STEP_STRIDE = 7919  # apart from the seeds that people choose


class DetectorModule(lightning.LightningModule):
    """Trains one network.

    A batch is a dict of items, see `training.detector.images.GroupItems`.

    Args:
        network: to train.
        optim: settings of the optimiser.
        augmentation: settings of the images' changes.
        seed: of the augmentation.
        clock: of a training by hours.
    """

    def __init__(
        self,
        network: DetectionNetwork,
        optim: OptimConfig,
        augmentation: AugmentationConfig,
        seed: int,
        clock: TrainingClock,
    ):
        super().__init__()
        # PyTorch's own annotations lack the memory format.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optim = optim
        self.augment = make_augmentation(augmentation)
        self.seed = seed
        self.clock = clock

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss; log its parts."""
        seed = self.seed + _STEP_STRIDE * self.global_step  # the same after a resume
        torch.manual_seed(seed + self.trainer.global_rank)
        with torch.no_grad():
            images = self.augment(batch["image"].float().div(255))
        loss = self._loss(images, batch)
        self.log("train/loss", loss.total.detach())
        self.log_dict({f"train/{n}": part.detach() for n, part in loss._asdict().items()})
        return loss.total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the loss."""
        loss = self._loss(batch["image"].float().div(255), batch)
        self.log("val/loss", loss.total, batch_size=len(batch["image"]), sync_dist=True)

    def _loss(self, images: Tensor, batch: dict[str, Tensor]) -> DetectionLoss:
        """Compare what the network says about images in [0, 1] with the objects in them."""
        images = frame(images).contiguous(memory_format=torch.channels_last)
        found = self.network(images)
        centers, strides = cells(images.shape[-2], images.shape[-1], images.device)
        there = [classes >= 0 for classes in batch["classes"]]
        ignored = [classes == IGNORED for classes in batch["classes"]]
        return detection_loss(
            Prediction(*(part.float() for part in found)),  # of mixed precision
            _chosen(batch["boxes"], there),
            _chosen(batch["classes"], there),
            centers,
            strides,
            _chosen(batch["boxes"], ignored),
        )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip; here the gradients of mixed precision are no longer scaled."""
        nn.utils.clip_grad_norm_(self.parameters(), self.optim.gradient_clip)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with linear warm-up and cosine decay to zero."""
        optim = self.optim
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=optim.lr, weight_decay=optim.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule_of(optim, self.clock))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _chosen(values: Tensor, which: list[Tensor]) -> list[Tensor]:
    return [row[mask] for row, mask in zip(values, which, strict=True)]
