"""Training from data to bundle, in tiny form: real renderings, real Lightning, real files."""

import copy
import json
import math
from dataclasses import asdict, fields, replace
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
import trimesh
from torch.utils.data import DataLoader

import training.data.samples
import training.train
from spyropose_ros.core import camera, se3_grid
from spyropose_ros.core.bundle import WEIGHTS, ModelBundle
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.model import ModelConfig, PoseModel
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.scenes.detector import noisy_box
from spyropose_ros.scenes.renderer import Renderer
from spyropose_ros.scenes.sampler import SceneSampler, SceneSettings, load_object_model
from training.calibrate import calibrate
from training.config import PRESETS, DataConfig, NetworkConfig, OptimConfig, TrainConfig
from training.data.rendered import (
    TEST,
    TRAIN,
    VALIDATION,
    EpochSampler,
    RenderedCrops,
    scene_generator,
    surface_map,
)
from training.evaluate import evaluate
from training.module import PoseModule
from training.objective import ObjectiveConfig, TrainingGrid, level_losses
from training.train import build_model, object_info, parse_args, train

SIZE_RATIO = 1.0
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
        dropout=0.0,
        point_dropout=0.0,
    ),
    objective=ObjectiveConfig(n_samples=2),
    optim=OptimConfig(
        max_steps=6,
        batch_size=2,
        lr=1e-3,
        warmup_steps=2,
        gradient_clip=1.0,
        augment=False,
        surface_weight=1.0,
        steps_per_epoch=2,
    ),
    data=DataConfig(num_workers=0, validation_images=2),
    seed=3,
)


@pytest.fixture(scope="module")
def sampler():
    return SceneSampler(load_object_model("mug"), SceneSettings(sprites=20))


@pytest.fixture(scope="module", autouse=True)
def few_sprites():
    """Making the pictures for the backgrounds takes seconds: make do with a few."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (training.train, training.data.samples):
            patched.setattr(module, "scene_settings", lambda name: SceneSettings(sprites=20))
        yield


def crops(sampler, data=TINY.data, stream=TRAIN, seed=0, roll=True, resolution=48):
    return RenderedCrops(sampler, SIZE_RATIO, resolution, 12, data, stream, seed, 100, roll)


def distance_to_surface(mesh, points):
    """Of every point to the nearest of all triangles."""
    nearest = [
        np.linalg.norm(
            trimesh.triangles.closest_point(mesh.triangles, np.tile(p, (n, 1))) - p, axis=1
        )
        for n, p in ((len(mesh.faces), p) for p in points)
    ]
    return np.min(nearest, axis=1)


# --- settings ---


def test_the_paper_preset_is_the_paper():
    paper = PRESETS["paper"]
    network, optim, objective = paper.network, paper.optim, paper.objective
    assert (network.backbone, network.depth, network.crop_resolution) == ("resnet18", 7, 224)
    assert (network.keypoints, network.n_keypoints, network.embed_dim) == ("fps", 16, 64)
    assert (network.hidden_dim, network.hidden_layers, network.batchnorm) == (256, 3, False)
    assert (network.dropout, network.point_dropout, network.feature_stride) == (0.1, 0.1, 1)
    assert (optim.max_steps, optim.batch_size, optim.lr) == (50_000, 4, 1e-4)
    assert (optim.weight_decay, optim.warmup_steps, optim.gradient_clip) == (0, 1000, 0)
    assert optim.surface_weight == 0
    assert objective == ObjectiveConfig(32, True, True, True)
    assert paper.data.max_roll == 180


def test_every_network_setting_reaches_the_model():
    info = object_info(load_object_model("mug"), TINY.network)
    for change in ({"batchnorm": True}, {"depth": 3}, {"hidden_layers": 2}, {"embed_dim": 5}):
        network = replace(TINY.network, **change)
        config = build_model(network, info).config
        for name in {f.name for f in fields(ModelConfig)} - {"backbone"}:
            assert getattr(config, name) == getattr(network, name), name


def test_flags_reach_the_settings():
    args = parse_args(
        [
            *("mug", "--preset", "paper", "--config.optim.max_steps", "7"),
            *("--config.optim.weight_decay", "0.5", "--config.network.crop_resolution", "64"),
            *("--config.data.detector_noise", "paper", "--config.objective.n_samples", "5"),
            *("--config.network.decoder_channels", "[8, 8]"),
        ]
    )
    paper = PRESETS["paper"]
    assert args.object == "mug"
    assert args.config == replace(
        paper,
        optim=replace(paper.optim, max_steps=7, weight_decay=0.5),
        network=replace(paper.network, crop_resolution=64, decoder_channels=(8, 8)),
        data=replace(paper.data, detector_noise="paper"),
        objective=replace(paper.objective, n_samples=5),
    )
    assert parse_args(["mug"]).config == PRESETS["small"]
    for wrong in (["mug", "--config.optim.learning_rate", "1"], ["mug", "--preset", "huge"]):
        with pytest.raises(SystemExit):
            parse_args(wrong)


def test_geometry_of_the_object():
    model = load_object_model("mug")
    info = object_info(model, TINY.network)
    points = np.array(info.keypoints)
    assert points.shape == (8, 3)
    assert distance_to_surface(model.mesh, points + model.center).max() < 2e-6  # rounded
    assert np.linalg.norm(points, axis=1).max() <= info.diameter / 2 + 1e-5
    assert object_info(model, TINY.network) == info
    corners = object_info(model, replace(TINY.network, keypoints="box"))
    assert len(corners.keypoints) == 16
    with pytest.raises(ValueError, match="'fps' or 'box', got 'grid'"):
        object_info(model, replace(TINY.network, keypoints="grid"))


# --- data ---


def test_items_repeat_and_streams_differ(sampler):
    data = crops(sampler)
    first, again = data[5], crops(sampler)[5]
    assert all(torch.equal(first[key], again[key]) for key in first)
    others = (data[6], crops(sampler, seed=1)[5], crops(sampler, stream=VALIDATION)[5])
    assert not any(torch.equal(first["rotation"], other["rotation"]) for other in others)
    draws = {scene_generator(0, stream, 5).random() for stream in (TRAIN, VALIDATION, TEST)}
    assert len(draws) == 3


@pytest.mark.parametrize("noise", ["boxes", "paper"])
def test_truths_lie_in_the_box_of_every_orientation(sampler, noise):
    data = crops(sampler, replace(TINY.data, detector_noise=noise))
    distances = []
    for index in range(30):
        item = data[index]
        box = TranslationBox.from_view(item["estimate"][None], sampler.model.diameter)
        g = box.coordinates(item["translation"].view(1, 1, 3))
        distances.append(float((g - 0.5).norm()))
    assert max(distances) < 0.5
    assert np.mean(distances) > 0.03  # there is noise


def test_the_network_sees_in_training_what_the_estimator_will_show_it(sampler, tiny_bundle):
    """The same box leads to the same crop and intrinsics, bit for bit."""
    data = crops(sampler, stream=VALIDATION, roll=False, resolution=32)
    item = data[2]
    rng = scene_generator(0, VALIDATION, 2)
    scene = sampler.sample(rng)
    box = noisy_box(scene.box, rng)
    model = sampler.model
    info = replace(tiny_bundle.object, diameter=float(model.diameter), size_ratio=SIZE_RATIO)
    estimator = Estimator(replace(tiny_bundle, object=info), "cpu")
    seen = []
    tiny_bundle.model.extractor.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    pyramid = estimator.search(scene.image, scene.K, box[None])
    torch.testing.assert_close(pyramid.box.center[0], item["estimate"])
    assert torch.equal((seen[0][0] * 255).round().byte(), item["crop"])
    torch.testing.assert_close(
        item["translation"],
        torch.from_numpy(scene.rotation @ model.center + scene.translation).float(),
    )


def test_rolled_crops_show_the_object_where_the_pose_says(sampler):
    """Surface points of the map project to their own pixels and lie on the mesh."""
    data = crops(sampler)
    model = sampler.model
    rolls = []
    for index in range(4):
        item = data[index]
        K_crop = item["K_crop"]
        rolls.append(math.atan2(float(K_crop[1, 0]), float(K_crop[0, 0])))
        visible = item["surface"][0] > 0
        assert 0.02 < float(visible.float().mean()) < 0.9
        points = item["surface"][1:, visible].T * model.diameter / 2  # about the centre
        on_mesh = points.double().numpy() + model.center
        assert distance_to_surface(model.mesh, on_mesh).max() < 2e-3
        in_camera = points @ item["rotation"].T + item["translation"]
        pixels, _ = camera.project(K_crop, in_camera)
        rows, columns = visible.nonzero().unbind(1)
        expected = torch.stack((columns, rows), 1) * 4 + 1.5  # 48 px crop, 12 px map
        torch.testing.assert_close(pixels, expected, atol=1e-2, rtol=0)
        assert bool((item["surface"][1:, ~visible] == 0).all())
    assert np.std(rolls) > 0.3


def test_nothing_visible_gives_an_empty_map(sampler):
    rng = scene_generator(0, TRAIN, 0)
    scene = sampler.sample(rng)
    center = torch.from_numpy(scene.rotation @ sampler.model.center + scene.translation).float()
    aside = (center + torch.tensor([0.5, 0.0, 0.0]))[None]
    K = torch.from_numpy(scene.K).float()
    K_crop = camera.crop_intrinsics(aside, sampler.model.diameter, K, 48)[0]
    empty = surface_map(scene, center, sampler.model.diameter, K_crop, 48, 12)
    assert empty.shape == (4, 12, 12) and not bool(empty.any())


def test_unknown_noise_is_named(sampler):
    with pytest.raises(ValueError, match="'boxes' or 'paper', got 'none'"):
        crops(sampler, replace(TINY.data, detector_noise="none"))


def test_epochs_continue_the_stream():
    """Where the trainer's steps have come to, shared between its processes."""
    trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    sampler = EpochSampler(trainer, items=6, batch_size=2)
    assert list(sampler) == [0, 1, 2, 3, 4, 5] and len(sampler) == 6
    trainer.global_step = 6  # two epochs of three steps
    assert list(sampler) == [12, 13, 14, 15, 16, 17]
    ranks = [SimpleNamespace(global_step=3, global_rank=rank, world_size=2) for rank in range(2)]
    shares = [list(EpochSampler(rank, items=12, batch_size=2)) for rank in ranks]
    assert shares == [[12, 14, 16, 18, 20, 22], [13, 15, 17, 19, 21, 23]]


# --- one step ---


def module_of(tiny_model, optim, objective=TINY.objective):
    config = replace(tiny_model.config, dropout=0.0, point_dropout=0.0)
    return PoseModule(PoseModel(config, tiny_model.keypoints), 0.12, objective, optim, seed=5)


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


def fit(module, batch, steps=1):
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader([{k: v[i] for k, v in batch.items()} for i in range(2)], 2)
    trainer.fit(module, loader)


def test_the_memory_trick_gives_the_plain_gradient(tiny_model, batch):
    """Level by level to the feature map, then once through the backbone: the same sum."""
    optim = replace(TINY.optim, gradient_clip=0.0, surface_weight=0.0)
    objective = replace(TINY.objective, n_samples=8)
    module = module_of(tiny_model, optim, objective)
    plain = copy.deepcopy(module.model)
    fit(module, batch)
    generator = torch.Generator().manual_seed(5)  # step 0 of seed 5
    grid = TrainingGrid.draw(batch["estimate"], 0.12, objective, generator)
    features = plain.features(batch["crop"].float().div(255))

    def score(level, R, t):
        return plain.logits(features, batch["K_crop"], level, R, t)

    truth = batch["rotation"], batch["translation"]
    sum(level_losses(score, grid, *truth, 3, objective, generator)).backward()
    for (name, a), b in zip(module.model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_the_schedule(tiny_model):
    """Warm-up to the peak, then a cosine to zero."""
    optim = replace(TINY.optim, max_steps=100, warmup_steps=20, lr=2e-3)
    configured = module_of(tiny_model, optim).configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] < 1e-5 and max(rates) == pytest.approx(2e-3)
    assert rates.index(max(rates)) == 20
    np.testing.assert_allclose(rates[:20], 2e-3 * (1e-3 + (1 - 1e-3) * np.arange(20) / 20))
    cosine = [1e-3 * (1 + math.cos(math.pi * k / 80)) for k in range(80)]
    np.testing.assert_allclose(rates[20:], cosine, rtol=1e-4, atol=1e-9)


# --- whole runs ---


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An uninterrupted tiny training: its folder."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    train("mug", TINY, directory, "cpu")
    return directory


def test_a_run_leaves_what_it_says(run):
    assert (run / "config.yaml").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    bundle = ModelBundle.from_pretrained(run / "bundle")
    assert bundle.object.name == "mug" and bundle.mesh_path is not None
    assert bundle.record["steps"] == 6
    assert bundle.record["object"] == "mug"
    assert bundle.record["config"] == json.loads(json.dumps(asdict(TINY)))
    assert {"package_version", "git_commit", "command", "hardware"} <= bundle.record.keys()


def test_an_interrupted_run_ends_with_the_same_weights(run, tmp_path, monkeypatch):
    """Stopped in the middle of the second of three epochs, then started again."""
    step = PoseModule.training_step

    def stop_at_the_fourth_step(self, batch, batch_idx):
        if self.global_step == 3:
            raise OSError("the power is gone")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(PoseModule, "training_step", stop_at_the_fourth_step)
        with pytest.raises(OSError, match="the power is gone"):
            train("mug", TINY, tmp_path, "cpu")
    assert not (tmp_path / "bundle").exists()
    train("mug", TINY, tmp_path, "cpu")
    whole, resumed = (ModelBundle.from_pretrained(path / "bundle") for path in (run, tmp_path))
    assert resumed.record["steps"] == 6
    assert (run / "bundle" / WEIGHTS).read_bytes() == (tmp_path / "bundle" / WEIGHTS).read_bytes()
    fresh = build_model(TINY.network, whole.object)  # and the training did something
    changed = [
        not torch.equal(a, b)
        for a, b in zip(whole.model.parameters(), fresh.parameters(), strict=True)
    ]
    assert np.mean(changed) > 0.9


def test_training_calibration_and_evaluation_fit_together(run, tmp_path):
    """The folder that a run exports is what calibration and evaluation take."""
    bundle = tmp_path / "bundle"
    ModelBundle.from_pretrained(run / "bundle").save_pretrained(bundle)
    temperatures = calibrate(str(bundle), images=3, beam=16)
    assert len(temperatures) == 2 and all(0.29 < t < 5.01 for t in temperatures)
    assert ModelBundle.from_pretrained(bundle).temperatures == temperatures

    options = {"images": 3, "beam": 16, "device": "cpu"}
    report = evaluate(str(bundle), **options)
    assert json.loads((bundle / "report.json").read_text()) == json.loads(json.dumps(report))
    assert (bundle / "report.md").read_text().startswith("#") and (bundle / "report.png").is_file()
    everything = report["metrics"]["all"]
    assert everything["images"] == 3 and report["search"]["depth"] == 2
    assert len(everything["ll_uniform_zero_per_level"]) == 2
    assert everything["evaluations_mean"] <= 576 + 16 * 64
    again = evaluate(str(bundle), **options, output=str(tmp_path / "again"))
    assert again["metrics"] == report["metrics"]
    other = evaluate(str(bundle), **options, seed=2, output=str(tmp_path / "other"))
    assert other["metrics"]["all"]["ll_pi2"] != everything["ll_pi2"]


# --- learning ---


@pytest.mark.slow
@pytest.mark.timeout(600)  # 20 s of one core
def test_overfitting_one_image_approaches_the_ceiling():
    """A picture of the mug, its pose known: the true cell of 2.4 million gets most of the mass."""
    torch.manual_seed(0)
    mug = load_object_model("mug")
    info = object_info(mug, TINY.network)
    K = np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]])
    rotation = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    translation = np.array([0.02, -0.01, 0.6])
    center = torch.from_numpy(rotation @ mug.center + translation).float()[None]
    image = Renderer(mug.mesh).render(rotation, translation, K, 640, 480).normals
    image = torch.from_numpy(np.uint8((image * 0.5 + 0.5) * 255)).permute(2, 0, 1)
    estimate = center + torch.tensor([[0.005, -0.004, 0.02]])
    depth = 3
    network = replace(
        TINY.network,
        depth=depth,
        crop_resolution=64,
        feature_stride=2,
        hidden_dim=64,
        embed_dim=8,
    )
    model = build_model(network, info).train()
    intrinsics = torch.from_numpy(K).float()
    K_crop = camera.crop_intrinsics(estimate, info.diameter, intrinsics, 64)
    crop = camera.crop_image(image, intrinsics, K_crop, 64)
    R = torch.from_numpy(rotation).float()[None]

    steps, copies, generator = 300, 2, torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps, pct_start=0.1)
    objective = ObjectiveConfig(n_samples=8, rotation_offset=False, translation_offset=False)

    def scorer(features, n):
        def score(level, rotations, translations):
            maps = features.expand(n, -1, -1, -1)
            return model.logits(maps, K_crop.expand(n, 3, 3), level, rotations, translations)

        return score

    def gain():
        """Log density of the truth over that of the uniform distribution."""
        box = TranslationBox.from_view(estimate, info.diameter)
        with torch.no_grad():
            pyramid = search(scorer(model.features(crop), 1), box, depth, beam=256)
        ll = pyramid.log_density_per_level(R[None], center[None])[0, 0, -1]
        return float(ll - se3_grid.uniform_log_density(box))

    before = gain()
    for _ in range(steps):
        grid = TrainingGrid.draw(estimate.expand(copies, 3), info.diameter, objective, generator)
        truth = R.expand(copies, 3, 3), center.expand(copies, 3)
        features = model.features(crop)
        losses = level_losses(scorer(features, copies), grid, *truth, depth, objective, generator)
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    after = gain()
    ceiling = math.log(576 * 64**2)
    assert before < 2 and after > 0.8 * ceiling
