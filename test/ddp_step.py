"""One training step on four images by one or two processes; run by test_processes.py.

Usage: python ddp_step.py PROCESSES OUTPUT
"""

import sys

import lightning
import torch
from torch.utils.data import DataLoader

from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel
from training.config import AugmentationConfig, OptimConfig
from training.data.streams import TRAIN, Stream
from training.fitting.module import PoseModule
from training.fitting.objective import ObjectiveConfig
from training.fitting.stream_data import StepSampler
from training_tools import tiny

# Layer norms: a batch norm's statistics are those of each process.
BACKBONE = {"model_type": "convnextv2", "hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4}


class Items:
    """Four noise images."""

    def __len__(self):
        return 4

    def item(self, index, rng):
        estimate = torch.tensor([0.01 * index, 0.0, 0.5])
        return {
            "crop": torch.from_numpy(rng.integers(256, size=(3, 32, 32))).byte(),
            "K_crop": torch.tensor([[80.0, 0, 15.5], [0, 80.0, 15.5], [0, 0, 1]]),
            "estimate": estimate,
            "rotation": torch.eye(3),
            "translation": estimate + 0.01,
        }


class KeepGradient(lightning.Callback):
    """Writes the gradient that the optimiser sees."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.is_global_zero:
            torch.save({n: p.grad for n, p in module.named_parameters()}, sys.argv[2])


def main():
    torch.manual_seed(0)
    network = tiny(dropout=0.0, point_dropout=0.0, crop_padding=1.5).network
    model = PoseModel(ModelConfig(BACKBONE, **network.shared()), 0.05 * torch.randn((8, 3)))
    optim = OptimConfig(max_steps=1, batch_size=2)
    still = AugmentationConfig(image_augmentations=False)
    module = PoseModule(model, 0.12, ObjectiveConfig(8), optim, still, seed=5)
    processes = int(sys.argv[1])
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=[KeepGradient()],
    )
    batch = 4 // processes
    sampler = StepSampler(trainer, 1, batch)
    trainer.fit(module, DataLoader(Stream(Items(), TRAIN, 0, 4), batch, sampler=sampler))


if __name__ == "__main__":
    main()
