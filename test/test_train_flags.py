"""The command line of training: every flag reaches what it names, and the original's names work."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.errors import InputError
from training import cli, train
from training.config import PRESETS, AugmentationConfig, TrainConfig
from training.data.shapes import ShapesSource
from training.fitting.assembly import assemble, crop_settings
from training.fitting.augment import make_augmentation
from training.fitting.objective import ObjectiveConfig
from training.train import parse_args, settings_of, source_of
from training_tools import TINY, distance_to_surface, mug_source, tiny


@pytest.fixture(scope="module", autouse=True)
def one_parser_for_each_preset():
    """They are the same every time, and take twice as long to build as to use."""
    build = functools.cache(train.build_parser)

    def again(preset):
        parser = build(preset)
        parser.set_defaults(PRESETS[preset].to_flat())  # as some flags change them
        return parser

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build_parser", again)
        yield


def settings(*flags):
    return settings_of(parse_args(["rendered", "mug", *map(str, flags)]))


def test_the_paper_preset_is_the_paper():
    paper = PRESETS["paper"]
    network, optim = paper.network, paper.optim
    assert (network.backbone, network.depth, network.crop_resolution) == ("resnet18", 7, 224)
    assert (network.keypoints, network.n_keypoints, network.embed_dim) == ("fps", 16, 64)
    assert (network.hidden_dim, network.hidden_layers, network.batchnorm) == (256, 3, False)
    assert (network.dropout, network.point_dropout, network.feature_stride) == (0.1, 0.1, 1)
    assert (optim.max_steps, optim.batch_size, optim.lr) == (50_000, 4, 1e-4)
    assert (optim.weight_decay, optim.warmup_steps, optim.gradient_clip) == (0, 1000, 0)
    assert (optim.ema, optim.precision, optim.encoder_lr) == (0, "32-true", 1)
    assert optim.surface_weight == 0
    assert paper.objective == ObjectiveConfig(32, True, "independent", True, True)
    assert paper.data.max_roll == 180 and paper.data.detector_noise == "paper"
    jitter = paper.augmentation
    assert (jitter.cj_p, jitter.cj_brightness, jitter.cj_contrast) == (1, 0.5, 0.5)
    assert (jitter.cj_saturation, jitter.cj_hue) == (0.5, 0.1)


def test_without_flags_the_preset_decides():
    assert settings() == PRESETS["default"]
    assert settings("--preset", "paper") == PRESETS["paper"]


# Every flag of the original (algorithm.md 2.4): what is typed, and the setting that it changes.
ORIGINAL = {
    ("--kpts", "box"): ("network", "keypoints", "box"),
    ("--n-pts", "9"): ("network", "n_keypoints", 9),
    ("--d-ff", "99"): ("network", "hidden_dim", 99),
    ("--vis-model", "resnet50"): ("network", "backbone", "resnet50"),
    ("--vis-model", "unet18"): ("network", "backbone", "resnet18"),
    ("--dropout", "0.3"): ("network", "dropout", 0.3),
    ("--recursion-depth", "5"): ("network", "depth", 5),
    ("--crop-res", "160"): ("network", "crop_resolution", 160),
    ("--no-translation-offset",): ("objective", "translation_offset", False),
    ("--no-rotation-offset",): ("objective", "rotation_offset", False),
    ("--batch-size", "7"): ("optim", "batch_size", 7),
    ("--weight-decay", "0.7"): ("optim", "weight_decay", 0.7),
    ("--n-samples", "77"): ("objective", "n_samples", 77),
    ("--no-is",): ("objective", "importance_sampling", False),
    ("--embed-dim", "33"): ("network", "embed_dim", 33),
    ("--n-layers", "4"): ("network", "hidden_layers", 4),
    ("--batchnorm",): ("network", "batchnorm", True),
    ("--point-dropout", "0.4"): ("network", "point_dropout", 0.4),
    ("--number-fourier-components", "5"): ("network", "fourier_components", 5),
    ("--no-image-augmentations",): ("augmentation", "image_augmentations", False),
    ("--cj-p", "0.9"): ("augmentation", "cj_p", 0.9),
    ("--cj-brightness", "0.11"): ("augmentation", "cj_brightness", 0.11),
    ("--cj-contrast", "0.12"): ("augmentation", "cj_contrast", 0.12),
    ("--cj-saturation", "0.13"): ("augmentation", "cj_saturation", 0.13),
    ("--cj-hue", "0.14"): ("augmentation", "cj_hue", 0.14),
    ("--max-steps", "100_000"): ("optim", "max_steps", 100_000),
    ("--lr", "0.5"): ("optim", "lr", 0.5),
    ("--num-workers", "3"): ("data", "num_workers", 3),
}


@pytest.mark.parametrize("flag", ORIGINAL, ids=" ".join)
def test_the_originals_flags_change_what_they_say(flag):
    part, name, value = ORIGINAL[flag]
    paper = PRESETS["paper"]
    changed = replace(paper, **{part: replace(getattr(paper, part), **{name: value})})
    assert settings("--preset", "paper", *flag) == changed


def test_the_low_data_regime():
    """9,500 images to train, 500 to validate once an epoch, five validations of patience."""
    config = settings("--preset", "paper", "--low-data-regime", "--batch-size", 16)
    assert config.data.low_data_regime and config.data.validation_images == 500
    assert (config.optim.steps_per_epoch, config.optim.patience) == (594, 5)


def test_steps_or_hours():
    optim = settings("--hours", 1.5).optim
    assert (optim.hours, optim.max_steps) == (1.5, 0)
    for both in (("--hours", 1, "--max-steps", 9), ("--max-steps", 0)):
        with pytest.raises(ValueError, match="either max_steps or hours"):
            settings(*both)


def test_other_flags():
    args = parse_args(["tless", "1", "--gpu-idx", "2", "--num-nodes", "3", "--debug"])
    assert (args.dataset, args.object, args.gpu_idx, args.num_nodes) == ("tless", "1", 2, 3)
    assert args.debug and not parse_args(["tless", "1"]).debug
    assert args.run_id.startswith("tless-1-20")
    assert parse_args(["data/bop/part", "1"]).run_id.startswith("part-1-20")


def test_every_setting_is_a_flag_and_survives_a_file(tmp_path):
    flat = PRESETS["default"].to_flat()
    assert TrainConfig.from_flat(flat) == PRESETS["default"]
    assert TrainConfig.from_flat({}) == replace(
        PRESETS["paper"], data=replace(PRESETS["paper"].data, detector_noise="boxes")
    )
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(flat | {"lr": 0.25}))
    assert settings("--preset", "paper", "--config", file).optim.lr == 0.25
    assert settings("--config", file, "--lr", 0.5).optim.lr == 0.5
    with pytest.raises(ValueError, match="unknown settings: colour"):
        TrainConfig.from_flat({"colour": 1})
    retired = {"channels_last": True, "compile": False}
    assert TrainConfig.from_flat(flat | retired) == PRESETS["default"]


def another(value):
    """A value of the same kind that differs."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [7, 8]
    known = {"fps": "box", "paper": "boxes", "upright": "uniform", "independent": "distinct"}
    return (known | {None: "other"}).get(value, "other")


@pytest.mark.parametrize("name", [*PRESETS["paper"].to_flat()])
def test_every_setting_has_a_flag_that_changes_just_it(name):
    flat = PRESETS["paper"].to_flat()
    value = [3, 4] if name.endswith("_scenes") else another(flat[name])
    written = yaml.safe_dump(value, default_flow_style=True).splitlines()[0]
    base = ["--preset", "paper"]
    if name == "last_level_only":  # it goes without importance sampling alone
        base.append("--no-is")
        flat["importance_sampling"] = False
    changed = settings(*base, f"--{name.replace('_', '-')}={written}").to_flat()
    if name == "low_data_regime":
        flat |= {"steps_per_epoch": 2375, "patience": 5, "validation_images": 500}
    if name == "hours":  # they or the steps end a training
        flat["max_steps"] = 0
    assert changed == flat | {name: value}


def test_the_precision_is_chosen_once(tmp_path):
    """A run goes on with what "auto" was at its start, also where that is asked for again."""
    flags = ["shapes", "cube", "--runs", str(tmp_path), "--run-id", "x", "--precision", "auto"]
    config = settings_of(parse_args(flags))
    assert config.optim.precision == "auto"
    chosen = replace(config, optim=replace(config.optim, precision="bf16-mixed"))
    (tmp_path / "x").mkdir()
    identity = {"dataset": "shapes", "object": "cube", "devices": 1, "num_nodes": 1}
    (tmp_path / "x" / "run.yaml").write_text(yaml.safe_dump(identity))
    (tmp_path / "x" / "config.yaml").write_text(yaml.safe_dump(chosen.to_flat()))
    assert settings_of(parse_args(flags)) == chosen
    with pytest.raises(SystemExit):
        parse_args([*flags[:-1], "32-true"])


def test_views_are_of_rendered_objects(tmp_path):
    args = parse_args(["shapes", "cube", "--views", "uniform", "--runs", str(tmp_path)])
    with pytest.raises(ValueError, match="--views is for rendered objects, not for shapes"):
        source_of(args, settings_of(args))


def test_the_same_command_resumes(tmp_path, monkeypatch):
    """However its values are written; other values are refused, explicit ones kept."""
    flags = [
        *("symsol", "cube", "--runs", str(tmp_path), "--run-id", "x", "--vis-model", "unet18"),
        *("--decoder-channels", "[96,48]", "--train-scenes", "[0,3]", "--low-data-regime"),
        *("--patience", "7"),
    ]
    args = parse_args(flags)
    config = settings_of(args)
    assert (config.optim.patience, config.data.validation_images) == (7, 500)
    (tmp_path / "x").mkdir()
    identity = {"dataset": "symsol", "object": "cube", "devices": 1, "num_nodes": 1}
    (tmp_path / "x" / "run.yaml").write_text(yaml.safe_dump(identity))
    (tmp_path / "x" / "config.yaml").write_text(yaml.safe_dump(config.to_flat()))
    assert settings_of(parse_args(flags)) == config
    short = ["symsol", "cube", "--runs", str(tmp_path), "--run-id", "x"]
    assert settings_of(parse_args(short)) == config
    for other in (["--patience", "8"], ["--devices", "2"], ["--kpts", "box"]):
        with pytest.raises(SystemExit):
            parse_args([*short, *other])
    with pytest.raises(SystemExit):
        parse_args(["symsol", "tet", *short[2:]])
    (tmp_path / "x" / "run.yaml").write_text(yaml.safe_dump(identity | {"preset": "default"}))
    assert settings_of(parse_args(flags)) == config
    with pytest.raises(SystemExit):
        parse_args([*short, "--preset", "paper"])


@pytest.mark.parametrize(
    "wrong",
    [("--learning-rate", "1"), ("--preset", "huge"), ("--kpts", "many"), ("--max-steps", "few")],
    ids=" ".join,
)
def test_wrong_flags_are_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        settings(*wrong)
    assert wrong[1] in capsys.readouterr().err


def test_hyphens_and_switches():
    typed = ["a-b", "--two-words", "x-y", "--two-words=x-y", "--on", "--no-on", "--on=false", "--"]
    assert cli.normalise(typed, ["on"]) == [
        *("a-b", "--two_words", "x-y", "--two_words=x-y"),
        *("--on=true", "--on=false", "--on=false", "--"),
    ]
    assert cli.normalise(["--no-is"], [], {"--no-is": "--sampling=false"}) == ["--sampling=false"]


def add(a: int, times_two: int = 1, negate: bool = False) -> int:
    """Add."""
    total = a + 2 * times_two
    return -total if negate else total


def mistake(file: str):
    """Open."""
    return open(file)


def test_what_a_user_can_mend_ends_in_one_line():
    with pytest.raises(SystemExit, match="mistake: .*nothing.txt"):
        cli.run(mistake, ["nothing.txt"])


def test_functions_as_commands():
    assert cli.run(add, ["3"]) == 5
    assert cli.run(add, ["3", "--times-two", "4", "--negate"]) == -11
    assert cli.run(add, ["3", "--no-negate"]) == 5


# --- from the settings to the model ---


def test_every_network_setting_reaches_the_model():
    source = mug_source()
    changes = {
        **{"depth": 3, "crop_resolution": 64, "crop_padding": 1.7, "feature_stride": 8},
        **{"decoder_channels": [24, 8], "feature_channels": 7, "embed_dim": 5, "hidden_dim": 9},
        **{"hidden_layers": 2, "dropout": 0.7, "point_dropout": 0.6, "batchnorm": True},
        **{"fourier_components": 4},
    }
    assert changes.keys() == TINY.network.shared().keys()
    built = assemble(source, tiny(**changes)).module.model.config
    assert (built.scorer, built.rotation_only) == ("keypoints", False)
    assert built.shared() == changes | {"decoder_channels": (24, 8)}
    own = assemble(source, TINY).module.model.config
    assert own.shared() == TINY.network.shared() | {"crop_padding": 1.5}
    assert all(own.shared()[name] != built.shared()[name] for name in changes)


def test_another_bundle_can_be_the_start(tmp_path):
    """Its encoder and decoder; of the same object also its heads."""
    source = mug_source()
    assembly = assemble(source, TINY)
    first, info = assembly.module.model, assembly.info
    ModelBundle(first, info, [1.0] * 2).save_pretrained(tmp_path / "mug", half=False)
    other = replace(info, name="cup")
    ModelBundle(first, other, [1.0] * 2).save_pretrained(tmp_path / "cup", half=False)
    same = lambda a, b: all(map(torch.equal, a.parameters(), b.parameters()))  # noqa: E731
    for name in ("mug", "cup"):
        model = assemble(source, tiny(start_from=str(tmp_path / name))).module.model
        assert same(model.extractor, first.extractor)
        assert same(model.heads, first.heads) == (name == "mug")
    with pytest.raises(InputError, match="from one model with keypoints to another"):
        assemble(ShapesSource("cube", 32), tiny(keypoints="none", start_from=str(tmp_path / "mug")))


def test_without_keypoints_the_vector_model_is_built():
    config = tiny(keypoints="none", fourier_components=4)
    model = assemble(ShapesSource("cube", 32), config).module.model
    assert model.config.scorer == "vector" and model.config.rotation_only
    assert model.config.crop_padding == 1.3
    assert model.rotation.in_features == 2 * 9 * 4


def test_keypoints_need_what_they_need(tmp_path):
    with pytest.raises(ValueError, match="unknown translations: use fps or box"):
        assemble(mug_source(), tiny(keypoints="none"))
    bare = ShapesSource("cube", 32)
    bare.mesh = None
    with pytest.raises(ValueError, match="no mesh: use --keypoints box or none"):
        assemble(bare, TINY)
    whole = ShapesSource("cube", 32)
    assert len(assemble(whole, tiny(keypoints="box")).info.keypoints) == 16
    bare.has_intrinsics = False
    with pytest.raises(ValueError, match="no camera model.*--keypoints none"):
        assemble(bare, TINY)


def test_geometry_of_the_object():
    source = mug_source()
    info = assemble(source, TINY).info
    points = np.array(info.keypoints)
    assert points.shape == (8, 3)
    assert np.linalg.norm(points, axis=1).max() <= info.diameter / 2 + 1e-5
    assert distance_to_surface(source.mesh, points + source.center).max() < 2e-6  # rounded
    assert assemble(source, TINY).info == info


def test_crops_follow_the_settings():
    source = mug_source()
    config = tiny(crop_resolution=64, feature_stride=2, detector_noise="paper", max_roll=7.0)
    crop = crop_settings(config, source, training=True)
    assert (crop.resolution, crop.map_size, crop.padding) == (64, 32, 1.5)
    assert (crop.box_noise, crop.max_roll, crop.surface) == (None, 7.0, True)
    assert crop_settings(config, source, training=False).max_roll == 0
    assert not crop_settings(tiny(surface_weight=0.0), source, training=True).surface
    assert not crop_settings(config, ShapesSource("cube", 32), training=True).surface


def test_the_published_renderings_are_not_augmented():
    module = assemble(ShapesSource("cube", 32), TINY).module
    crops = torch.rand((2, 3, 32, 32))
    assert torch.equal(module.augment(crops), crops) and module.surface is None


# --- augmentation ---


def test_each_augmentation_changes_the_pixels(generator):
    crops = torch.rand((8, 3, 32, 32), generator=generator) * 0.5 + 0.25
    off = {"cj_p": 0.0, "sensor": False, "erase": 0.0}
    assert torch.equal(make_augmentation(AugmentationConfig(**off))(crops), crops)
    for on in ({"cj_p": 1.0}, {"sensor": True}, {"erase": 1.0}):
        torch.manual_seed(0)
        changed = make_augmentation(AugmentationConfig(**(off | on)))(crops)
        assert changed.shape == crops.shape and changed.dtype == crops.dtype
        assert float(changed.min()) >= 0 and float(changed.max()) <= 1
        assert float((changed - crops).abs().amax((1, 2, 3)).mean()) > 0.02, on
