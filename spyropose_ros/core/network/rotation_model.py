"""The network without keypoints: one vector per image, added to an encoding of the rotation.

It needs neither intrinsics nor a CAD model and knows rotations only.

Source: Haugaard et al., ICCVW 2023, the variants without keypoints; after Implicit-PDF (Murphy et
al., ICML 2021).
"""

import torch
from torch import Tensor, nn

from spyropose_ros.core.network.backbone import Encoder
from spyropose_ros.core.network.config import ModelConfig


class RotationModel(nn.Module):
    """Image-vector model for one object; the interface of `PoseModel`.

    Args:
        config: architecture.

    Attributes:
        octaves: frequencies of the Fourier encoding, 1, 2, 4, ..., [fourier_components].
    """

    octaves: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.backbone)
        width = config.hidden_dim
        self.image = nn.Linear(self.encoder.width, width)
        self.rotation = nn.Linear(2 * 9 * config.fourier_components, width)  # of all levels
        self.heads = nn.ModuleList(_head(config) for _ in range(config.depth))
        octaves = 2.0 ** torch.arange(config.fourier_components)
        self.register_buffer("octaves", octaves, persistent=False)

    def features(self, crops: Tensor) -> Tensor:
        """Map crops [B, 3, H, W] in [0, 1] to image vectors [B, hidden_dim]."""
        coarsest = self.encoder(crops)[-1]
        return self.image(coarsest.mean((2, 3)))

    def logits(
        self, features: Tensor, K_crop: Tensor, level: int, rotations: Tensor, translations: Tensor
    ) -> Tensor:
        """Score rotations.

        Args:
            features: from `features`, [B, C].
            K_crop: not used.
            level: pyramid level, selects the head.
            rotations: object to camera, [B, N, 3, 3].
            translations: not used.

        Returns:
            Unnormalised log-likelihoods [B, N].
        """
        return self._logits(features, level, rotations)

    def family_logits(
        self,
        features: Tensor,
        K_crop: Tensor,
        level: int,
        image: Tensor,
        rotations: Tensor,
        translations: Tensor,
    ) -> Tensor:
        """Score families as `FusedHeads.family_logits` does, [M, R]: each has one translation."""
        return self._logits(features[image], level, rotations)

    def _logits(self, features: Tensor, level: int, rotations: Tensor) -> Tensor:
        """Score rotations [B, N, 3, 3] by image vectors [B, C]: logits [B, N]."""
        scaled = rotations.flatten(2).unsqueeze(-1) * self.octaves  # [B, N, 9, F]
        encoded = torch.cat((scaled.sin(), scaled.cos()), -1).flatten(2)  # [B, N, 9 * 2 F]
        summed = features.unsqueeze(1) + self.rotation(encoded)
        batch, n = summed.shape[:2]
        return self.heads[level](summed.flatten(0, 1)).view(batch, n)


def _head(config: ModelConfig) -> nn.Sequential:
    """Make the MLP of one level, [B * N, hidden_dim] -> [B * N, 1]."""
    width = config.hidden_dim
    layers: list[nn.Module] = []
    for i in range(config.hidden_layers):
        if config.batchnorm:
            layers.append(nn.BatchNorm1d(width))
        last = i + 1 == config.hidden_layers
        layers += [nn.GELU(), nn.Linear(width, 1 if last else width)]
    return nn.Sequential(*layers)
