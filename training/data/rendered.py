"""Endless rendered training images, reproducible item by item, and held-out scenes by seed."""

import math
from collections.abc import Iterator
from dataclasses import replace

import cv2
import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from spyropose_ros.core import camera
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.scenes.detector import noisy_box
from spyropose_ros.scenes.sampler import Scene, SceneSampler
from training.config import DataConfig, NetworkConfig, OptimConfig

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Streams of random scenes; each item's generator is seeded by (seed, stream, index)."""

_PAPER_SIGMA, _PAPER_LIMIT = 0.1, 0.5  # the paper's offset noise in box units
# Truths must lie in every turn of the box: inside the ball inscribed in the unit cube.
_BALL = 0.5


def scene_generator(seed: int, stream: int, index: int) -> np.random.Generator:
    """The random generator of one item."""
    return np.random.default_rng((seed, stream, index))


class RenderedCrops(Dataset):
    """Crops as the network sees them, with the simulated detector in the loop.

    Args:
        sampler: of scenes.
        size_ratio: apparent-size ratio of the object.
        crop_resolution: side of the crops.
        map_size: side of the surface map.
        data: settings.
        stream: `TRAIN` or `VALIDATION`.
        seed: of the stream.
        length: number of items.
        roll: turn the crops by a random in-plane angle, up to data.max_roll.
        crop_padding: as in `spyropose_ros.core.model.ModelConfig`.
    """

    def __init__(
        self,
        sampler: SceneSampler,
        size_ratio: float,
        crop_resolution: int,
        map_size: int,
        data: DataConfig,
        stream: int,
        seed: int,
        length: int,
        roll: bool,
        crop_padding: float = 1.5,
    ):
        if data.detector_noise not in ("boxes", "paper"):
            raise ValueError(
                f"detector_noise must be 'boxes' or 'paper', got '{data.detector_noise}'"
            )
        self.sampler = sampler
        self.size_ratio = size_ratio
        self.crop_resolution = crop_resolution
        self.map_size = map_size
        self.data = data
        self.stream = stream
        self.seed = seed
        self.length = length
        self.roll = roll
        self.crop_padding = crop_padding

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One item; keys as in `training.module.PoseModule`."""
        rng = scene_generator(self.seed, self.stream, index)
        model = self.sampler.model
        while True:  # rarely the noisy estimate misses the truth by more than the box
            scene = self.sampler.sample(rng)
            # Which of the poses that look the same is annotated is chance.
            symmetry = model.symmetries[rng.integers(len(model.symmetries))]
            scene = replace(scene, rotation=scene.rotation @ symmetry)
            center = torch.from_numpy(scene.rotation @ model.center + scene.translation).float()
            estimate = self._estimate(scene, center, rng)
            if _within_ball(center, estimate, model.diameter):
                break
        K = torch.from_numpy(scene.K).float()
        limit = math.radians(self.data.max_roll) if self.roll else 0.0
        angle = rng.uniform(-limit, limit)
        K_crop = camera.crop_intrinsics(
            estimate,
            model.diameter,
            K,
            self.crop_resolution,
            self.crop_padding,
            roll=torch.tensor([angle], dtype=torch.float32),
        )
        image = torch.from_numpy(scene.image).permute(2, 0, 1)
        crop = camera.crop_image(image, K, K_crop, self.crop_resolution)
        return {
            "crop": crop[0].mul(255).round().byte(),
            "K_crop": K_crop[0],
            "estimate": estimate[0],
            "rotation": torch.from_numpy(scene.rotation).float(),
            "translation": center,
            "surface": surface_map(
                scene, center, model.diameter, K_crop[0], self.crop_resolution, self.map_size
            ),
        }

    def _estimate(
        self, scene: Scene, center: torch.Tensor, rng: np.random.Generator
    ) -> torch.Tensor:
        """Translation estimate of the simulated detector, [1, 3]."""
        diameter = self.sampler.model.diameter
        if self.data.detector_noise == "boxes":
            box = torch.from_numpy(noisy_box(scene.box, rng)).float()
            K = torch.from_numpy(scene.K).float()
            return camera.translation_from_boxes(box[None], K, diameter, self.size_ratio)
        offset = rng.normal(size=3) * _PAPER_SIGMA
        while np.linalg.norm(offset) >= _PAPER_LIMIT:
            offset = rng.normal(size=3) * _PAPER_SIGMA
        basis = TranslationBox.from_view(center[None], diameter).basis[0]
        return (center + basis @ torch.from_numpy(offset).float())[None]


def surface_map(
    scene: Scene,
    center: torch.Tensor,
    diameter: float,
    K_crop: torch.Tensor,
    resolution: int,
    size: int,
) -> torch.Tensor:
    """What the crop shows of the object: the visible surface in object coordinates.

    Args:
        scene: with the depth of the visible surface.
        center: bounding-sphere centre in the camera frame, metres, [3].
        diameter: of the bounding sphere, metres.
        K_crop: intrinsics of the crop, [3, 3].
        resolution: side of the crop.
        size: side of the map.

    Returns:
        float32 [4, size, size]: 1 where the object is visible, then the point relative to the
        centre in units of the radius (in [-1, 1]^3; 0 where not visible).
    """
    step = resolution / size
    pixel = (torch.arange(size) + 0.5) * step - 0.5
    v, u = torch.meshgrid(pixel, pixel, indexing="ij")
    ray = torch.stack((u, v, torch.ones_like(u)), -1).view(-1, 3) @ torch.linalg.inv(K_crop).mT
    ray = ray / ray[:, 2:]  # K_crop may be turned; depth is along z
    source = (ray @ torch.from_numpy(scene.K).float().mT)[:, :2].round().long()
    height, width = scene.depth.shape
    inside = ((source >= 0) & (source < torch.tensor((width, height)))).all(1)
    x, y = source[:, 0].clamp(0, width - 1), source[:, 1].clamp(0, height - 1)
    depth = torch.from_numpy(scene.depth)[y, x] * inside
    point = ray * depth.unsqueeze(1) - center
    coordinates = point @ torch.from_numpy(scene.rotation).float() / (diameter / 2)
    visible = (depth > 0).unsqueeze(1)
    return torch.cat((visible.float(), coordinates * visible), 1).T.reshape(4, size, size)


def _within_ball(center: torch.Tensor, estimate: torch.Tensor, diameter: float) -> bool:
    """Whether the truth lies in the ball inscribed in the box around the estimate."""
    if estimate[0, 2] <= 0:
        return False
    box = TranslationBox.from_view(estimate, diameter)
    return bool((box.coordinates(center.view(1, 1, 3)) - 0.5).norm() < _BALL)


class EpochSampler(Sampler[int]):
    """Consecutive indices; an epoch begins where the steps so far have ended, also after a resume.

    (The epoch that Lightning passes to `set_epoch` is one too high after a resume.)

    Args:
        trainer: counts the steps and shares each epoch between its processes.
        items: per epoch.
        batch_size: items per step and process.
    """

    def __init__(self, trainer: lightning.Trainer, items: int, batch_size: int):
        self.trainer = trainer
        self.items = items
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[int]:
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        first = self.trainer.global_step * self.batch_size * processes
        return iter(range(first + rank, first + self.items, processes))

    def __len__(self) -> int:
        return len(range(self.trainer.global_rank, self.items, self.trainer.world_size))


class RenderedData(lightning.LightningDataModule):
    """Training stream and a fixed validation set of one object.

    Args:
        sampler: of scenes.
        size_ratio: apparent-size ratio of the object.
        network: for the sizes of crops and feature maps.
        data: settings.
        optim: batch size, steps per epoch and number of steps.
        seed: of all streams.
    """

    def __init__(
        self,
        sampler: SceneSampler,
        size_ratio: float,
        network: NetworkConfig,
        data: DataConfig,
        optim: OptimConfig,
        seed: int,
    ):
        super().__init__()
        self.data = data
        self.optim = optim
        resolution = network.crop_resolution
        common = (sampler, size_ratio, resolution, resolution // network.feature_stride, data)
        items = optim.max_steps * optim.batch_size
        self.train_set = RenderedCrops(*common, TRAIN, seed, items, True, network.crop_padding)
        validation = data.validation_images
        self.validation_set = RenderedCrops(*common, VALIDATION, seed, validation, False, network.crop_padding)

    def train_dataloader(self) -> DataLoader:
        """Loader of one epoch's stretch of the stream."""
        items = self.optim.steps_per_epoch * self.optim.batch_size
        sampler = EpochSampler(self.trainer, items, self.optim.batch_size)
        return self._loader(self.train_set, sampler)

    def val_dataloader(self) -> DataLoader:
        """Loader of the validation set."""
        return self._loader(self.validation_set, None)

    def _loader(self, dataset: Dataset, sampler: Sampler | None) -> DataLoader:
        workers = self.data.num_workers
        return DataLoader(
            dataset,
            self.optim.batch_size,
            sampler=sampler,
            num_workers=workers,
            worker_init_fn=_single_thread,
            persistent_workers=workers > 0,
            drop_last=sampler is not None,
        )


def _single_thread(_worker: int) -> None:
    """Loader processes share the cores with the training."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
