"""The keypoint network: (crop) -> feature map; (feature map, poses, level) -> logits.

A pose is scored by what the image shows where the object's keypoints would be: project the
keypoints, look up the feature map, and feed the concatenated features to the level's MLP. All
levels share the feature map.

Source: Haugaard et al., ICCVW 2023, section 3 and the sizes in its supplement.
"""

from typing import cast

import torch
from torch import Tensor, nn

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.kernels.sampling import sampled
from spyropose_ros.core.network.backbone import Encoder, FeatureExtractor
from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.precision import full_precision
from spyropose_ros.core.network.rotation_model import RotationModel


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

    Attributes:
        keypoints: the same in float32, a buffer that moves with the module.

    Raises:
        InputError: no keypoints, or of another shape.
    """

    keypoints: Tensor

    def __init__(self, config: ModelConfig, keypoints: Tensor):
        super().__init__()
        if keypoints.ndim != 2 or keypoints.shape[1] != 3 or len(keypoints) == 0:
            raise InputError(f"keypoints must be [P, 3], got {tuple(keypoints.shape)}")
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

    @property
    def encoder(self) -> Encoder:
        """The part that published weights may be loaded into."""
        return self.extractor.encoder

    def features(self, crops: Tensor) -> Tensor:
        """Map crops [B, 3, H, W] in [0, 1] to feature maps [B, C, h, w]."""
        if crops.shape[-1] != self.config.crop_resolution:
            raise InputError(
                f"the model needs crops of {self.config.crop_resolution} px, got {crops.shape[-1]}"
            )
        return self.extractor(crops)

    def logits(
        self, features: Tensor, K_crop: Tensor, level: int, rotations: Tensor, translations: Tensor
    ) -> Tensor:
        """Score poses.

        Args:
            features: from `features`, [B, C, h, w].
            K_crop: intrinsics of the crops, [B, 3, 3].
            level: pyramid level, selects the head.
            rotations: object to camera, [B, N, 3, 3].
            translations: of the bounding-sphere centre, metres, [B, N, 3].

        Returns:
            Unnormalised log-likelihoods [B, N].
        """
        head = cast(Head, self.heads[level])
        embedded = head.embed(features)  # [B, E, h, w]
        hidden = self.config.point_dropout if self.training else 0.0
        poses = rotations, translations
        with full_precision(features.device):
            values = sampled(
                embedded,
                self.out_of_image,
                self.keypoints,
                K_crop,
                *poses,
                self.config.crop_resolution,
                hidden,
            )  # [B, N, P, E]
        batch, n = values.shape[:2]
        return head.mlp(values.reshape(batch * n, -1)).reshape(batch, n)


def make_model(config: ModelConfig, keypoints: Tensor) -> PoseModel | RotationModel:
    """Make the network that a configuration describes.

    Args:
        config: architecture.
        keypoints: relative to the bounding-sphere centre, metres, [P, 3]; not used by the vector
            scorer.

    Returns:
        The network, with fresh weights.
    """
    if config.scorer == "vector":
        return RotationModel(config)
    return PoseModel(config, keypoints)
