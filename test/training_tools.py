"""A tiny training's settings and sources, for the tests of the training."""

from dataclasses import replace

import numpy as np
import torch
import trimesh

from spyropose_ros.scenes import chance as chances
from spyropose_ros.scenes.appearance import Appearance
from spyropose_ros.scenes.chance import Chance
from spyropose_ros.scenes.detector import BoxNoise
from spyropose_ros.scenes.sampler import SceneSettings
from training.config import (
    AugmentationConfig,
    DataConfig,
    NetworkConfig,
    OptimConfig,
    TrainConfig,
)
from training.data.rendered import RenderedSource
from training.data.source import CropSettings
from training.fitting.objective import ObjectiveConfig

TINY = TrainConfig(
    network=NetworkConfig(
        backbone="resnet18-slim",
        n_keypoints=8,
        depth=2,
        crop_resolution=32,
        feature_stride=4,
        decoder_channels=(16, 16, 16),
        feature_channels=8,
        embed_dim=4,
        hidden_dim=16,
        hidden_layers=1,
        dropout=0.1,
        point_dropout=0.1,
    ),
    objective=ObjectiveConfig(n_samples=2),
    optim=OptimConfig(
        max_steps=6,
        batch_size=2,
        lr=1e-3,
        warmup_steps=2,
        gradient_clip=1.0,
        surface_weight=1.0,
        steps_per_epoch=2,
    ),
    augmentation=AugmentationConfig(),
    data=DataConfig(num_workers=0, validation_images=2),
    seed=3,
)

CROP = CropSettings(48, 12, 1.5, BoxNoise(), 180.0, True)


def mug_source() -> RenderedSource:
    """The mug with few pictures for its backgrounds, which take seconds to make."""
    look = Appearance(plain_backdrops=5)
    return RenderedSource("mug", "data", SceneSettings(sprites=20, appearance=look))


class Numbers:
    """Items that show their index and what their generator draws first."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def item(self, index, rng):
        return {"index": torch.tensor(index), "draw": torch.tensor(rng.random())}


def tiny(**changes) -> TrainConfig:
    """`TINY` with changes by flag name."""
    return TrainConfig.from_flat(TINY.to_flat() | changes)


def numbers(n: int, seed: int = 0) -> Chance:
    """Random numbers of items."""
    return Chance(torch.stack([chances.draw(np.random.default_rng((seed, i))) for i in range(n)]))


def crop(**changes) -> CropSettings:
    """`CROP` with changes."""
    return replace(CROP, **changes)


def distance_to_surface(mesh, points):
    """Of every point to the nearest of all triangles."""
    nearest = [
        np.linalg.norm(
            trimesh.triangles.closest_point(mesh.triangles, np.tile(p, (n, 1))) - p, axis=1
        )
        for n, p in ((len(mesh.faces), p) for p in points)
    ]
    return np.min(nearest, axis=1)
