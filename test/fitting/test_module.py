"""One training step: gradients, schedule, precision, averages, processes."""

import copy
import math
from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.utils.data import DataLoader

from spyropose_ros.core.network.keypoint_model import PoseModel
from training.config import AugmentationConfig
from training.fitting.module import PoseModule, surface_loss
from training.fitting.objective import BatchRandom, ObjectiveConfig, TrainingGrid, level_losses
from training_tools import TINY

PLAIN = replace(TINY.optim, gradient_clip=0.0, surface_weight=0.0)
NO_AUGMENTATION = AugmentationConfig(image_augmentations=False)


def module_of(tiny_model, optim=PLAIN):
    config = replace(tiny_model.config, dropout=0.0, point_dropout=0.0)
    torch.manual_seed(0)
    model = PoseModel(config, tiny_model.keypoints)
    return PoseModule(model, 0.12, ObjectiveConfig(8), optim, NO_AUGMENTATION, seed=5)


@pytest.fixture
def batch(generator):
    K_crop = torch.tensor([[80.0, 0, 15.5], [0, 80.0, 15.5], [0, 0, 1]])
    estimate = torch.tensor([[0.0, 0.0, 0.5], [0.02, 0.01, 0.6]])
    return {
        "crop": torch.randint(256, (2, 3, 32, 32), generator=generator).byte(),
        "K_crop": K_crop.repeat(2, 1, 1),
        "estimate": estimate,
        "rotation": torch.eye(3).repeat(2, 1, 1),
        "translation": estimate + 0.01,
        "surface": torch.rand((2, 4, 16, 16), generator=generator).round(),
    }


def fit(module, batch, steps=1, **options):
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    loader = DataLoader([{k: v[i] for k, v in batch.items()} for i in range(2)], 2)
    trainer.fit(module, loader)
    return trainer


def test_the_memory_trick_gives_the_plain_gradient(tiny_model, batch):
    """Level by level to the feature map, then once through the backbone: the same sum."""
    module = module_of(tiny_model)
    plain = copy.deepcopy(module.model)
    fit(module, batch)
    random = BatchRandom(torch.Generator().manual_seed(5))  # step 0 of seed 5
    grid = TrainingGrid.draw(batch["estimate"], 0.12, module.objective, random)
    features = plain.features(batch["crop"].float().div(255))

    def score(level, R, t):
        return plain.logits(features, batch["K_crop"], level, R, t)

    truth = batch["rotation"], batch["translation"]
    sum(level_losses(score, grid, *truth, 3, module.objective, random)).backward()
    for (name, a), b in zip(module.model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5, msg=name)


def gradients(module):
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def test_bfloat16_gives_about_the_same_gradient(tiny_model, batch):
    """Every part is scaled alike: the gradients of features and heads point the same way."""
    exact, rough = module_of(tiny_model), module_of(tiny_model)
    fit(exact, batch)
    fit(rough, batch, precision="bf16-mixed")
    for part in ("encoder", "heads"):
        a, b = gradients(getattr(exact.model, part)), gradients(getattr(rough.model, part))
        assert not torch.equal(a, b)
        assert float(a.norm() / b.norm()) == pytest.approx(1, abs=0.1)
        assert float(torch.nn.functional.cosine_similarity(a, b, 0)) > 0.97


def test_clipping_limits_the_whole_gradient(tiny_model, batch):
    free, clipped = module_of(tiny_model), module_of(tiny_model, replace(PLAIN, gradient_clip=0.1))
    fit(free, batch)
    fit(clipped, batch)
    assert float(gradients(free).norm()) > 0.2
    assert float(gradients(clipped).norm()) == pytest.approx(0.1, rel=1e-3)
    torch.testing.assert_close(
        gradients(clipped) * gradients(free).norm() / 0.1, gradients(free), rtol=1e-3, atol=1e-5
    )


def test_the_average_of_the_weights_follows_them(tiny_model, batch):
    """decay * average + (1 - decay) * weights after every step but the first, which it copies."""
    seen = []

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.append(module.model.out_of_image.detach().clone())

    module = module_of(tiny_model, replace(PLAIN, warmup_steps=0, lr=0.05))
    fit(module, batch, 4, callbacks=[Watch(), EMAWeightAveraging(decay=0.5)])
    averaged = module.model.out_of_image.detach()
    expected = seen[0]
    for weights in seen[1:]:
        expected = expected + 0.5 * (weights - expected)
    assert float((seen[-1] - averaged).abs().max()) > 1e-3
    torch.testing.assert_close(averaged, expected)


def test_the_schedule(tiny_model):
    """Warm-up to the peak, then a cosine to zero; the encoder in proportion."""
    optim = replace(PLAIN, max_steps=100, warmup_steps=20, lr=2e-3, encoder_lr=0.25)
    configured = module_of(tiny_model, optim).configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]
    rates = []
    for _ in range(100):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    rest, encoder = np.array(rates).T
    np.testing.assert_allclose(encoder, 0.25 * rest, atol=1e-12)
    assert rest[0] < 1e-5 and rest.max() == pytest.approx(2e-3)
    assert rest.argmax() == 20
    np.testing.assert_allclose(rest[:20], 2e-3 * (1e-3 + (1 - 1e-3) * np.arange(20) / 20))
    cosine = [1e-3 * (1 + math.cos(math.pi * k / 80)) for k in range(80)]
    np.testing.assert_allclose(rest[20:], cosine, rtol=1e-4, atol=1e-9)


def test_every_parameter_is_optimised_once(tiny_model):
    module = module_of(tiny_model, TINY.optim)
    groups = module.configure_optimizers()["optimizer"].param_groups
    optimised = [id(p) for group in groups for p in group["params"]]
    assert sorted(optimised) == sorted(id(p) for p in module.parameters())


def test_the_surface_counts_in_its_nearest_equivalent(generator):
    """Half a turn about z: the map of either pose is right, and an image keeps to one of them."""
    visible = (torch.rand((2, 1, 6, 6), generator=generator) > 0.3).float()
    coordinates = torch.randn((2, 3, 6, 6), generator=generator) * visible
    surface = torch.cat((visible, coordinates), 1)
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    symmetries = torch.stack((torch.eye(3), half_turn))
    turned = torch.einsum("ij,bjhw->bihw", half_turn, coordinates)
    certain = 40 * (visible - 0.5)
    for exact in (coordinates, turned, torch.stack((coordinates[0], turned[1]))):
        predicted = torch.cat((certain, exact), 1)
        assert float(surface_loss(predicted, surface, symmetries)) < 1e-6
    alone = surface_loss(torch.cat((certain, turned), 1), surface, symmetries[:1])
    assert float(alone) > 1
    mixed = torch.cat((coordinates[..., :3], turned[..., 3:]), -1)
    assert float(surface_loss(torch.cat((certain, mixed), 1), surface, symmetries)) > 0.5
