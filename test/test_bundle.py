"""Bundles on disk: exact when whole, refused with a reason when not."""

import hashlib
import json
import math
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spyropose_ros.core.bundle import (
    CONFIG,
    MESH,
    WEIGHTS,
    BundleError,
    Feature,
    InputError,
    ModelBundle,
    ObjectInfo,
)
from spyropose_ros.core.bundle_files import bundle_name
from spyropose_ros.scenes.mug import make_mug

MODELS = Path(__file__).parents[1] / "models"


@pytest.fixture
def saved(tiny_bundle, tmp_path):
    tiny_bundle.save_pretrained(tmp_path / "bundle", half=False)
    return tmp_path / "bundle"


def edit(directory, change):
    """Apply a change to config.json."""
    path = directory / CONFIG
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def replace_weights(directory, state):
    """Other tensors, with a hash that says they are meant."""
    save_file(state, directory / WEIGHTS)
    bless(directory)


def bless(directory):
    digest = hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()
    edit(directory, lambda config: config.update(weights_sha256=digest))


def test_round_trip_is_exact(tiny_bundle, saved):
    loaded = ModelBundle.from_pretrained(saved)
    before, after = tiny_bundle.model.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(loaded.model.keypoints, tiny_bundle.model.keypoints)
    assert loaded.object == tiny_bundle.object
    assert loaded.model.config == tiny_bundle.model.config
    assert loaded.temperatures == tiny_bundle.temperatures
    assert loaded.record == {"steps": 0}
    assert loaded.name == str(saved) and loaded.mesh_path is None
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_half_precision_is_half_the_size_and_stable(tiny_bundle, saved, tmp_path):
    tiny_bundle.save_pretrained(tmp_path / "half")
    floats = load_file(tmp_path / "half" / WEIGHTS)
    assert {t.dtype for t in floats.values()} == {torch.float16, torch.int64}
    once = ModelBundle.from_pretrained(tmp_path / "half")
    for name, value in once.model.state_dict().items():
        assert value.dtype in (torch.float32, torch.int64)
        torch.testing.assert_close(
            value, tiny_bundle.model.state_dict()[name], rtol=1e-3, atol=1e-6
        )
    once.save_pretrained(tmp_path / "again")
    weights = [(tmp_path / name / WEIGHTS).read_bytes() for name in ("half", "again")]
    assert weights[0] == weights[1]


def test_saving_keeps_the_mesh_and_the_card(tiny_bundle, saved):
    (saved / MESH).write_text("ply")
    (saved / "README.md").write_text("card")
    tiny_bundle.save_pretrained(saved)
    assert (saved / "README.md").read_text() == "card"
    assert ModelBundle.from_pretrained(saved).mesh_path == saved / MESH


def test_a_missing_folder(tmp_path):
    with pytest.raises(BundleError, match="no model bundle at.*no such folder; give the path"):
        ModelBundle.from_pretrained(tmp_path / "nowhere")


def test_a_hub_id_that_cannot_be_had(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BundleError, match="'nobody/no-such-model'.*the hub did not provide it"):
        ModelBundle.from_pretrained("nobody/no-such-model")


@pytest.mark.parametrize(
    ("name", "reason"), [(CONFIG, "is not a model bundle"), (WEIGHTS, "is incomplete")]
)
def test_a_missing_file(saved, name, reason):
    (saved / name).unlink()
    with pytest.raises(BundleError, match=f"{reason}: {name} is missing"):
        ModelBundle.from_pretrained(saved)


@pytest.mark.parametrize("path", ["runs/part/bundle", "part", "owner/part", "bundle"])
def test_a_bundle_is_called_as_its_training(path, tmp_path, monkeypatch):
    (tmp_path / "part").mkdir()
    monkeypatch.chdir(tmp_path / "part")
    assert bundle_name(path) == "part"


def test_the_folder_of_a_training_leads_to_its_bundle(saved):
    with pytest.raises(BundleError, match=f"{CONFIG} is missing; did you mean {saved}[?]"):
        ModelBundle.from_pretrained(saved.parent)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[1, 2", b"\x80\x04.", 100_000 * b"["]
)
def test_a_damaged_config(saved, content):
    (saved / CONFIG).write_bytes(content)
    with pytest.raises(BundleError, match=f"{CONFIG} is damaged, not valid JSON"):
        ModelBundle.from_pretrained(saved)


@pytest.mark.parametrize("content", ["[]", "null", "3", "{}", '{"format": "other/2"}'])
def test_a_foreign_config(saved, content):
    (saved / CONFIG).write_text(content)
    with pytest.raises(BundleError, match="is of format .* this package reads 'spyropose_ros/1'"):
        ModelBundle.from_pretrained(saved)


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_truncated_weights(saved, keep):
    content = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(content[:keep])
    with pytest.raises(BundleError, match=f"{WEIGHTS} is damaged or not the file"):
        ModelBundle.from_pretrained(saved)
    bless(saved)  # even with a hash that fits
    with pytest.raises(BundleError, match=f"{WEIGHTS} is damaged, not a safetensors file"):
        ModelBundle.from_pretrained(saved)


@pytest.mark.parametrize("position", [0, 20, -1, -1000])
def test_a_flipped_bit(saved, position):
    content = bytearray((saved / WEIGHTS).read_bytes())
    content[position] ^= 1
    (saved / WEIGHTS).write_bytes(content)
    with pytest.raises(BundleError, match="is damaged.*sha256 differs.*copy or download it again"):
        ModelBundle.from_pretrained(saved)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(saved, value):
    state = load_file(saved / WEIGHTS)
    state["heads.1.mlp.0.bias"][3] = value
    replace_weights(saved, state)
    with pytest.raises(BundleError, match="NaN or infinite weights in heads.1.mlp.0.bias"):
        ModelBundle.from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("out_of_image"), "Missing key.*out_of_image"),
        (lambda state: state.update(extra=torch.zeros(1)), "Unexpected key.*extra"),
        (lambda state: state.update(out_of_image=torch.zeros(5)), "size mismatch for out_of_image"),
    ],
)
def test_weights_of_another_architecture(saved, change, reason):
    state = load_file(saved / WEIGHTS)
    change(state)
    replace_weights(saved, state)
    with pytest.raises(BundleError, match=f"(?s)does not fit the architecture.*{reason}"):
        ModelBundle.from_pretrained(saved)


def test_a_config_of_another_architecture(saved):
    edit(saved, lambda config: config["model"].update(hidden_dim=24))
    with pytest.raises(BundleError, match="does not fit the architecture"):
        ModelBundle.from_pretrained(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("object"),
        lambda config: config.pop("temperatures"),
        lambda config: config.update(model=None),
        lambda config: config.update(object=[1]),
        lambda config: config["object"].pop("diameter"),
        lambda config: config["object"].update(colour="red"),
        lambda config: config["object"].update(diameter=0.0),
        lambda config: config["object"].update(diameter=math.nan),
        lambda config: config["object"].update(diameter=10**400),
        lambda config: config["object"].update(size_ratio="large"),
        lambda config: config["object"].update(center=[0.0, 0.0]),
        lambda config: config["object"].update(keypoints=[[0.0, 1.0]]),
        lambda config: config["object"].update(keypoints=[[0.0, 1.0, math.inf]]),
        lambda config: config["object"].update(keypoints=[[0.0, 1.0], [2.0]]),
        lambda config: config["object"].update(name=""),
        lambda config: config["object"].update(name=7),
        lambda config: config["object"].update(name="mug\nERROR all is lost"),
        lambda config: config["object"].update(name="../../etc/passwd"),
        lambda config: config["object"].update(name="a\\b"),
        lambda config: config["object"].update(name="."),
        lambda config: config["object"].update(name=".."),
        lambda config: config["object"].update(name="\x1b[2Jmug"),
        lambda config: config["object"].update(name="mug "),
        lambda config: config["object"].update(name=1000 * "m"),
        lambda config: config.update(record=[1]),
        lambda config: config["model"].update(depth="seven"),
        lambda config: config["model"].update(depth=10**9),
        lambda config: config["model"].update(depth=0),
        lambda config: config["model"].update(depth=3.0),
        lambda config: config["model"].update(depth=True),
        lambda config: config["model"].update(crop_resolution=10**6),
        lambda config: config["model"].update(crop_padding=1e9),
        lambda config: config["model"].update(crop_padding=math.nan),
        lambda config: config["model"].update(decoder_channels=[10**9, 1]),
        lambda config: config["model"].update(decoder_channels=10**4 * [8]),
        lambda config: config["model"].update(decoder_channels=[]),
        lambda config: config["model"].update(hidden_dim=10**9),
        lambda config: config["model"].update(hidden_layers=10**6),
        lambda config: config["model"].update(embed_dim=10**9),
        lambda config: config["model"].update(dropout=math.nan),
        lambda config: config["model"].update(fourier_components=10**6),
        lambda config: config["model"]["backbone"].update(hidden_sizes=[10**9]),
        lambda config: config["model"]["backbone"].update(depths=[8192, 8192]),
        lambda config: config["model"].update(backbone=[1]),
        lambda config: config["model"]["backbone"].update(embedding_size=math.inf),
        lambda config: config["model"].update(feature_stride=0),
        lambda config: config["model"].update(feature_channels=-1),
        lambda config: config["model"].update(backbone={}),
        lambda config: config["model"].update(backbone={"model_type": "no-such-model"}),
    ],
)
def test_a_config_that_describes_no_model(saved, change):
    edit(saved, change)
    with pytest.raises(BundleError, match=f"{CONFIG} does not describe a model.*export"):
        ModelBundle.from_pretrained(saved)


@pytest.mark.parametrize("name", ["mug", "コップ", "M8 nut (left)", "obj_000001", "a.b-c"])
def test_names_that_detectors_give(saved, name):
    edit(saved, lambda config: config["object"].update(name=name))
    assert ModelBundle.from_pretrained(saved).object.name == name


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.update(embed_dim=8192, hidden_dim=8192),
        lambda model: model.update(decoder_channels=4 * [8192], feature_channels=8192),
        lambda model: model["backbone"].update(hidden_sizes=[8192, 8192]),
        lambda model: model["backbone"].update(embedding_size=2 * 10**6),
        lambda model: model["backbone"].update(depths=[200, 1]),
    ],
)
def test_weights_are_compared_before_memory_is_taken(saved, change):
    edit(saved, lambda config: change(config["model"]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match="does not fit the architecture.*too few values"):
        ModelBundle.from_pretrained(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_missing_checksum(saved):
    edit(saved, lambda config: config.pop("weights_sha256"))
    with pytest.raises(BundleError, match="lacks weights_sha256.*copy or download the bundle"):
        ModelBundle.from_pretrained(saved)


def test_the_shipped_bundles_load():
    folders = sorted(path.parent for path in MODELS.glob("*/config.json"))
    assert len(folders) > 4
    for folder in folders:
        assert ModelBundle.from_pretrained(folder).object.name


@pytest.mark.parametrize(
    "temperatures", [[], [1.0], [1.0, 1.0, 0.0], [1.0, 1.0, -2.0], [1.0, 1.0, math.nan]]
)
def test_unusable_temperatures(saved, temperatures):
    edit(saved, lambda config: config.update(temperatures=temperatures))
    with pytest.raises(BundleError, match="needs 3 positive temperatures"):
        ModelBundle.from_pretrained(saved)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_are_never_opened(saved, tmp_path):
    trap = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(trap)))
    assert trap.exists()  # the trap works
    trap.unlink()
    (saved / WEIGHTS).write_bytes(pickle.dumps(Trap(trap)))
    bless(saved)
    with pytest.raises(BundleError, match="not a safetensors file"):
        ModelBundle.from_pretrained(saved)
    torch.save({"weights": Trap(trap)}, saved / WEIGHTS)
    bless(saved)
    with pytest.raises(BundleError, match="not a safetensors file"):
        ModelBundle.from_pretrained(saved)
    assert not trap.exists()


def test_objects_check_their_numbers():
    good = {
        "name": "thing",
        "center": [0.0, 0.0, 0.0],
        "diameter": 0.1,
        "size_ratio": 1.0,
        "size_ratio_std": 0.1,
        "keypoints": np.eye(3).tolist(),
    }
    ObjectInfo(**good)
    for change in ({"diameter": -1.0}, {"size_ratio": math.nan}, {"center": [0.0]}):
        with pytest.raises(ValueError, match="finite numbers"):
            ObjectInfo(**(good | change))


# --- features ---


def test_features_are_set_saved_and_read(tiny_bundle, tmp_path):
    assert tiny_bundle.features == {}
    tiny_bundle.features["handle"] = Feature([0.07, 0, 0.05], [1, 0, 0])
    tiny_bundle.features["rim"] = Feature([0.0, 0.0, 0.1])
    tiny_bundle.save_pretrained(tmp_path)
    written = json.loads((tmp_path / CONFIG).read_text())["features"]
    assert written == {"handle": [[0.07, 0, 0.05], [1, 0, 0]], "rim": [[0.0, 0.0, 0.1]]}
    assert ModelBundle.from_pretrained(tmp_path).features == tiny_bundle.features


def test_the_mug_has_a_handle():
    features = ModelBundle.from_pretrained(MODELS / "demo_mug").features
    mesh = make_mug().mesh
    assert features["handle"].direction == [1, 0, 0]
    x, _, z = features["handle"].point
    assert x == pytest.approx(mesh.vertices[:, 0].max(), abs=0.006) and 0.04 < z < 0.06


@pytest.mark.parametrize(
    "features",
    [
        [],
        {"handle": [0.0, 0.0, 0.0]},
        {"handle": []},
        {"handle": [[0.0, 0.0]]},
        {"handle": [[0.0, 0.0, math.inf]]},
        {"handle": [["a", "b", "c"]]},
        {"handle": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]},
        {"handle": [[0.0, 0.0, 0.0]] * 3},
        {"a/b": [[0.0, 0.0, 0.0]]},
    ],
)
def test_unusable_features(saved, features):
    edit(saved, lambda config: config.update(features=features))
    with pytest.raises(BundleError, match="features must be like"):
        ModelBundle.from_pretrained(saved)


def test_a_feature_without_a_name_is_not_saved(tiny_bundle, tmp_path):
    tiny_bundle.features[""] = Feature([0.0, 0.0, 0.0])
    with pytest.raises(InputError, match="a feature's name"):
        tiny_bundle.save_pretrained(tmp_path)
