"""The weights of a level's head, and its MLP, as the fast formulations use them."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spyropose_ros.core.network.keypoint_model import Head, PoseModel


@dataclass(frozen=True)
class PackedHead:
    """The weights of one level's head, batch norm folded in.

    Attributes:
        embed_weight: 1x1 convolution of the feature map, [E, C].
        embed_bias: [E].
        out_of_image: embedding of keypoints outside the crop, [E].
        first: first layer by keypoint, [P, E, H].
        first_bias: [H].
        hidden: weights [H, H] and biases [H] of the further hidden layers.
        last: [H].
        last_bias: scalar.
    """

    embed_weight: Tensor
    embed_bias: Tensor
    out_of_image: Tensor
    first: Tensor
    first_bias: Tensor
    hidden: list[tuple[Tensor, Tensor]]
    last: Tensor
    last_bias: Tensor

    @classmethod
    def of(cls, model: PoseModel, level: int) -> "PackedHead":
        """Pack the head of a level, as the model computes it in evaluation."""
        head = cast(Head, model.heads[level])
        assert head.embed.bias is not None
        (first, first_bias), *hidden, (last, last_bias) = _linears(head.mlp)
        return cls(
            head.embed.weight.flatten(1),
            head.embed.bias,
            model.out_of_image,
            first.unflatten(1, (len(model.keypoints), -1)).permute(1, 2, 0).contiguous(),
            first_bias,
            hidden,
            last[0],
            last_bias[0],
        )

    def layers_after_first(self, first: Tensor) -> Tensor:
        """Apply the rest of the MLP to the first layer's products, without its bias.

        Args:
            first: [N, H], overwritten.

        Returns:
            Logits, [N].
        """
        x = gelu_(first, self.first_bias)
        for weight, bias in self.hidden:
            x = gelu_(torch.mm(x, weight.mT), bias)  # adding it there costs a quarter more
        return x @ self.last + self.last_bias


def gelu_(x: Tensor, bias: Tensor) -> Tensor:
    """Apply GELU to x [N, H] + bias [H]; on a CPU in place, in float32 and without gradients."""
    if x.device.type != "cpu":
        return F.gelu(x + bias)
    from spyropose_ros.core.kernels import numba_kernels  # importing Numba takes half a second

    numba_kernels.gelu(x.numpy(), bias.detach().numpy())
    return x


def _linears(mlp: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Return weights and biases of an MLP's linear layers, with the batch norms folded in."""
    linears: list[tuple[Tensor, Tensor]] = []
    for layer in mlp:
        if isinstance(layer, nn.Linear):
            linears.append((layer.weight, layer.bias))
        elif isinstance(layer, nn.BatchNorm1d):
            weight, bias = linears.pop()
            state = layer.state_dict()
            scale = layer.weight * (state["running_var"] + layer.eps).rsqrt()
            shift = layer.bias - state["running_mean"] * scale
            linears.append((weight * scale.unsqueeze(1), bias * scale + shift))
    return linears
