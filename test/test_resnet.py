"""The ResNet encoder: what `transformers`' ResNet computes, under the same names."""

import pytest
import torch

from spyropose_ros.core.network.backbone import Encoder
from spyropose_ros.core.network.resnet import ResNet

SMALL = {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [2, 1, 2]}
BASIC = SMALL | {"layer_type": "basic"}
BOTTLENECK = SMALL | {"layer_type": "bottleneck"}


def backbone(**options):
    """The network of `transformers`, which takes so long to import that only its users do."""
    from transformers import ResNetBackbone

    return ResNetBackbone(configuration(**options))


def configuration(**options):
    from transformers import ResNetConfig

    return ResNetConfig(**options)


def both(options):
    """`transformers`' network with random weights and statistics, and ours with the same."""
    torch.manual_seed(0)
    theirs = backbone(**options, out_features=["stage1", "stage2", "stage3"])
    for name, value in theirs.state_dict().items():
        if "normalization" in name and value.is_floating_point():
            value.copy_(0.5 + torch.rand(value.shape))
    ours = ResNet(**options)
    ours.load_state_dict(theirs.state_dict())  # every tensor, no other
    return theirs, ours


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        BASIC,
        BOTTLENECK,
        BASIC | {"downsample_in_first_stage": True},
        BOTTLENECK | {"downsample_in_bottleneck": True},
    ],
)
def test_maps_gradients_and_statistics_are_those_of_transformers(generator, options, training):
    theirs, ours = both(options)
    image = torch.randn((2, 3, 48, 48), generator=generator)
    stems = []
    theirs.embedder.embedder.register_forward_hook(lambda m, i, output: stems.append(output))
    expected = theirs.train(training)(image).feature_maps
    stem, *found = ours.train(training)(image)
    torch.testing.assert_close(stem, stems[0], rtol=0, atol=0)
    torch.testing.assert_close(found, list(expected), rtol=0, atol=0)
    for last in (expected[-1], found[-1]):
        last.square().mean().backward()
    state = ours.state_dict()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    gradients = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients[name].grad, parameter.grad)


def test_fresh_weights_have_the_spread_of_transformers():
    theirs, ours = backbone(), ResNet()  # of ResNet-50, as both default to
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        if "convolution" in name:
            assert float(state[name].std() / value.std()) == pytest.approx(1, abs=0.03)
        else:
            assert torch.equal(state[name], value)


@pytest.mark.parametrize("options", [BASIC, {"layer_type": "bottleneck", "depths": [1, 1, 1, 1]}])
def test_a_configuration_of_the_hub_describes_the_same_network(options):
    """It leaves out what is a default, and has much that does not describe the network."""
    config = configuration(**options, id2label={0: "tench", 1: "goldfish"}, architectures=["X"])
    encoder = Encoder(config.to_diff_dict())
    theirs = backbone(**options).state_dict()
    encoder.backbone.load_state_dict(theirs)
    assert encoder.width == config.hidden_sizes[-1]
    assert (encoder.image_mean, encoder.image_std) == (0.5, 0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_type": "wide"}, "layer_type must be 'basic' or 'bottleneck', got 'wide'"),
        ({"hidden_act": "gelu"}, "hidden_act of a ResNet must be 'relu', got 'gelu'"),
        ({"num_channels": 4}, "num_channels of a ResNet must be 3, got 4"),
        ({"depths": [2, 2]}, "3 hidden_sizes need as many depths, got"),
        ({"hidden_sizes": [], "depths": []}, "0 hidden_sizes need as many depths, got"),
    ],
)
def test_another_network_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Encoder({"model_type": "resnet"} | SMALL | change)
