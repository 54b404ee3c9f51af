"""Random colours of things."""

import torch
from torch import Tensor

from spyropose_ros.scenes.chance import Chance


def random_colours(chance: Chance) -> Tensor:
    """Draw RGB in [0, 1], [B, 3]; greys, pale and strong colours are all common."""
    hue = chance.uniform(0, 6)
    saturation = chance.uniform() ** 1.5
    value = chance.uniform(0.2, 1.0)
    steps = (torch.tensor([5.0, 3.0, 1.0], device=hue.device) + hue.unsqueeze(1)) % 6
    fall = torch.minimum(steps, 4 - steps).clamp(0, 1)
    return value.unsqueeze(1) * (1 - saturation.unsqueeze(1) * fall)
