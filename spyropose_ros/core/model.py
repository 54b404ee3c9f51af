"""The network: (crop) -> feature map; (feature map, poses, level) -> logits.

A pose is scored by what the image shows where the object's keypoints would be: project the
keypoints, look up the feature map, and feed the concatenated features to the level's MLP. All
levels share the feature map.

Source: Haugaard et al., ICCVW 2023, section 3 and the sizes in its supplement.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spyropose_ros.core.backbone import NAMED_BACKBONES, FeatureExtractor
from spyropose_ros.core.camera import project, to_grid_sample


@dataclass(frozen=True)
class ModelConfig:
    """Architecture. The defaults are the paper's.

    Attributes:
        backbone: `transformers` configuration of the encoder, with its model_type.
        depth: number of pyramid levels, each with its own head.
        crop_resolution: side of the input in pixels.
        crop_padding: side of the crop's view in units of the bounding sphere's diameter.
        feature_stride: crop pixels per feature-map pixel.
        decoder_channels: of the decoder's steps, coarse to fine.
        feature_channels: of the feature map.
        embed_dim: features per keypoint.
        hidden_dim: width of the heads' MLPs.
        hidden_layers: hidden layers of each MLP.
        dropout: after each hidden layer.
        point_dropout: probability that a keypoint's features are zeroed for a whole image.
        batchnorm: batch norm after each hidden linear layer.
    """

    backbone: dict
    depth: int = 7
    crop_resolution: int = 224
    feature_stride: int = 1
    decoder_channels: tuple[int, ...] = (512, 256, 256, 128)
    feature_channels: int = 128
    embed_dim: int = 64
    hidden_dim: int = 256
    hidden_layers: int = 3
    dropout: float = 0.1
    point_dropout: float = 0.1
    batchnorm: bool = False
    crop_padding: float = 1.5

    @classmethod
    def paper(cls, **changes) -> "ModelConfig":
        """ResNet-18 U-Net at full resolution, depth 7."""
        return cls(backbone=NAMED_BACKBONES["resnet18"][1], **changes)

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "ModelConfig":
        """Inverse of `to_dict`; TypeError on unknown or missing keys."""
        return cls(**(values | {"decoder_channels": tuple(values["decoder_channels"])}))


class Head(nn.Module):
    """One level: keypoint embedding of the feature map and the MLP.

    Args:
        config: of the model.
        n_keypoints: features that the MLP concatenates.
    """

    def __init__(self, config: ModelConfig, n_keypoints: int):
        super().__init__()
        self.embed = nn.Conv2d(config.feature_channels, config.embed_dim, 1)
        layers: list[nn.Module] = []
        width = n_keypoints * config.embed_dim
        for _ in range(config.hidden_layers):
            layers.append(nn.Linear(width, config.hidden_dim))
            if config.batchnorm:
                layers.append(nn.BatchNorm1d(config.hidden_dim))
            layers += [nn.GELU(), nn.Dropout(config.dropout)]
            width = config.hidden_dim
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 1))


class PoseModel(nn.Module):
    """Keypoint model for one object.

    Args:
        config: architecture.
        keypoints: points of the object relative to its bounding-sphere centre, metres, [P, 3].
    """

    def __init__(self, config: ModelConfig, keypoints: Tensor):
        super().__init__()
        if keypoints.ndim != 2 or keypoints.shape[1] != 3:
            raise ValueError(f"keypoints must be [P, 3], got {tuple(keypoints.shape)}")
        self.config = config
        self.extractor = FeatureExtractor(
            config.backbone,
            config.decoder_channels,
            config.feature_channels,
            config.crop_resolution,
            config.feature_stride,
        )
        self.heads = nn.ModuleList(Head(config, len(keypoints)) for _ in range(config.depth))
        self.out_of_image = nn.Parameter(torch.randn(config.embed_dim))
        self.register_buffer("keypoints", keypoints.float(), persistent=False)

    def features(self, crops: Tensor) -> Tensor:
        """Crops [B, 3, H, W] in [0, 1] -> feature map [B, C, h, w], channels last in memory."""
        if crops.shape[-1] != self.config.crop_resolution:
            raise ValueError(
                f"the model needs crops of {self.config.crop_resolution} px, got {crops.shape[-1]}"
            )
        return self.extractor(crops.to(memory_format=torch.channels_last))

    def logits(
        self, features: Tensor, K_crop: Tensor, level: int, rotations: Tensor, translations: Tensor
    ) -> Tensor:
        """Unnormalised log-likelihoods of poses.

        Args:
            features: from `features`, [B, C, h, w].
            K_crop: intrinsics of the crops, [B, 3, 3].
            level: pyramid level, selects the head.
            rotations: object to camera, [B, N, 3, 3].
            translations: of the bounding-sphere centre, metres, [B, N, 3].

        Returns:
            [B, N].
        """
        head = self.heads[level]
        embedded = head.embed(features)  # [B, E, h, w]
        points = self.keypoints @ rotations.mT + translations.unsqueeze(2)  # [B, N, P, 3]
        pixels, depth = project(K_crop.unsqueeze(1), points)
        size = self.config.crop_resolution
        grid = to_grid_sample(pixels, size, size)  # [B, N, P, 2]
        values = F.grid_sample(embedded, grid, padding_mode="border", align_corners=False)
        values = values.permute(0, 2, 3, 1)  # [B, N, P, E]
        if self.training and self.config.point_dropout > 0:
            batch, _, n_points, _ = values.shape
            kept = torch.ones((batch, 1, n_points, 1), device=values.device)
            values = values * F.dropout(kept, self.config.point_dropout)
        outside = (grid.abs() > 1).any(-1) | (depth <= 0)  # [B, N, P]
        values = torch.where(outside.unsqueeze(-1), self.out_of_image, values)
        batch, n = values.shape[:2]
        return head.mlp(values.reshape(batch * n, -1)).reshape(batch, n)
