"""Exported files compute what PyTorch computes, for any number of crops and poses."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model_tools import TINY
from spyropose_ros.core import so3
from spyropose_ros.core.bundle import ModelBundle, ObjectInfo
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.network.keypoint_model import make_model
from training import cli
from training.export import MANIFEST, export
from training_tools import mug_source

ROOT = Path(__file__).parents[1]
MUG = ROOT / "models/demo_mug"
DOC = (ROOT / "docs/export.md").read_text()

# Operators of TensorRT 10.1's ONNX parser, of those that we need, as the document lists them.
TENSORRT = set(re.search(r"they use: (.*)\.\n", DOC).group(1).replace("`", "").split(", "))


def vector_bundle():
    """Without keypoints, with batch norm; untrained."""
    torch.manual_seed(0)
    config = replace(TINY, scorer="vector", rotation_only=True, batchnorm=True, depth=2)
    model = make_model(config, torch.empty(0, 3)).eval().requires_grad_(False)
    return ModelBundle(model, ObjectInfo("thing", [0.0, 0, 0], 0.12, 0.9, 0.05, []), [1.0, 1.0])


def save_shallow(name, folder, depth):
    """A shipped model's first levels: an export takes seconds for each, all in the same way."""
    whole = ModelBundle.from_pretrained(ROOT / "models" / name)
    model = make_model(replace(whole.model.config, depth=depth), whole.model.keypoints).eval()
    model.load_state_dict(whole.model.state_dict(), strict=False)
    bundle = ModelBundle(model, whole.object, whole.temperatures[:depth])
    bundle.save_pretrained(folder, half=False)
    return str(folder)


@pytest.fixture
def tiny(tiny_bundle, tmp_path):
    """Folder of an untrained bundle."""
    tiny_bundle.save_pretrained(tmp_path / "bundle", half=False)
    return str(tmp_path / "bundle")


@pytest.fixture(scope="module")
def mug_bundle(tmp_path_factory):
    return save_shallow("demo_mug", tmp_path_factory.mktemp("bundle"), depth=2)


@pytest.fixture(scope="module")
def mug(mug_bundle):
    return ModelBundle.from_pretrained(mug_bundle)


@pytest.fixture(scope="module")
def mug_onnx(mug_bundle, tmp_path_factory):
    return export(mug_bundle, str(tmp_path_factory.mktemp("export") / "mug_onnx"))


@pytest.fixture(scope="module")
def sample():
    """A held-out rendering."""
    return next(mug_source().samples("renderings", 0))


@pytest.fixture(scope="module")
def view(mug, sample):
    """Crop of a rendering, its intrinsics and where the mug is, as the estimator cuts it."""
    center = sample.rotation @ mug.object.center + sample.translation
    estimate = torch.tensor(center, dtype=torch.float32)[None]
    crops, K_crop = Estimator(mug, "cpu").crops(sample.image, sample.K, estimate)
    return crops, K_crop, estimate


def poses_near(estimate, batch, n):
    """Random rotations, and translations that show the object in its crop."""
    generator = torch.Generator().manual_seed(n)
    rotations = so3.random_rotations(batch * n, generator).unflatten(0, (batch, n))
    return rotations, estimate + 0.03 * torch.randn((batch, n, 3), generator=generator)


def load(path):
    import onnx  # here and below: the fast tests export nothing

    return onnx.load(path)


def session(folder, part):
    import onnxruntime

    path = folder / part["file"]
    loaded = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in loaded.get_inputs()] == part["inputs"]
    assert [o.name for o in loaded.get_outputs()] == [part["output"]]

    def run(**inputs):
        given = {name: inputs[name].numpy() for name in part["inputs"]}
        return torch.from_numpy(loaded.run(None, given)[0])

    return run


def assert_near(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def describe(folder):
    return json.loads((folder / MANIFEST).read_text())


@pytest.mark.parametrize(("batch", "n"), [(1, 1), (1, 576), (3, 40)])
def test_onnx_runtime_computes_what_pytorch_computes(mug, mug_onnx, view, batch, n):
    """On a crop as the estimator cuts it, at every level."""
    about, (crops, K_crop, estimate) = describe(mug_onnx), view
    generator = torch.Generator().manual_seed(0)
    crops = torch.cat((crops, torch.rand((batch - 1, *crops.shape[1:]), generator=generator)))
    K_crop = K_crop.expand(batch, 3, 3).contiguous()
    features = session(mug_onnx, about["backbone"])(crops=crops)
    assert_near(features, mug.model.features(crops))
    rotations, translations = poses_near(estimate, batch, n)
    assert len(about["heads"]) == 2
    for level, part in enumerate(about["heads"]):
        pose = {"K_crop": K_crop, "rotations": rotations, "translations": translations}
        logits = session(mug_onnx, part)(features=features, **pose)
        expected = mug.model.logits(features, K_crop, level, rotations, translations)
        assert logits.shape == (batch, n)
        assert n == 1 or float(expected.std()) > 0.1
        assert_near(logits, expected)


def test_the_operators_are_documented_for_tensorrt(mug_onnx):
    files = sorted(mug_onnx.glob("*.onnx"))
    assert len(files) == 3
    for file in files:
        model = load(file)
        assert {node.op_type for node in model.graph.node} <= TENSORRT
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]


def test_the_documented_examples(mug, mug_onnx, sample, tmp_path, monkeypatch):
    """Run as they are written; the first estimates what the estimator estimates."""
    (tmp_path / "mug_onnx").symlink_to(mug_onnx)
    shallow = save_shallow("demo_mug", tmp_path / "shallow", depth=1)
    export(shallow, str(tmp_path / "mug_pt2"), "exported-program")
    monkeypatch.chdir(tmp_path)
    first, second = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    names = {"image": sample.image, "K": sample.K, "boxes": sample.box[None]}
    exec(first, names)
    settings = SearchSettings(beam=512, mass_tolerance=0.0)
    (expected,) = Estimator(mug, "cpu", settings).estimate(sample.image, sample.K, sample.box[None])
    for got, wanted in zip((names["R"], names["t"]), expected.mode(), strict=True):
        torch.testing.assert_close(got, wanted)
    assert names["distribution"].entropy() == pytest.approx(expected.entropy(), abs=1e-3)
    exec(second, names)
    rotations, translations = names["rotations"], names["translations"]
    wanted = mug.model.logits(
        mug.model.features(names["crops"]), names["K_crop"], 0, rotations, translations
    )
    assert_near(names["logits"], wanted)


def test_an_exported_program_is_equal(tiny_bundle, tiny, tmp_path, generator):
    """Loaded again it gives the same numbers; each file holds its own weights only."""
    folder = export(tiny, str(tmp_path / "out"), "exported-program")
    about = describe(folder)
    assert about["format"] == "exported-program" and "opset" not in about
    load = lambda part: torch.export.load(folder / part["file"])  # noqa: E731
    model = tiny_bundle.model
    for batch, n in ((1, 1), (4, 100)):
        crops = torch.rand((batch, 3, 32, 32), generator=generator)
        features = load(about["backbone"]).module()(crops)
        assert torch.equal(features, model.features(crops))
        K_crop = torch.tensor([[100.0, 0, 15.5], [0, 100.0, 15.5], [0, 0, 1]])
        inputs = K_crop.repeat(batch, 1, 1), *poses_near(torch.tensor([0.0, 0, 0.5]), batch, n)
        for level, part in enumerate(about["heads"]):
            logits = load(part).module()(features, *inputs)
            expected = model.logits(features, inputs[0], level, *inputs[1:])
            assert torch.equal(logits, expected)
    weights = load(about["heads"][1]).state_dict
    assert all(name.startswith(("model.heads.1.", "model.out_of")) for name in weights)
    assert not any("heads" in name for name in load(about["backbone"]).state_dict)


@pytest.mark.parametrize("opset", [18, 23])
def test_a_model_without_keypoints(opset, tmp_path, generator, capsys):
    bundle = vector_bundle()
    bundle.save_pretrained(tmp_path / "bundle", half=False)
    folder = tmp_path / "out"
    arguments = [str(tmp_path / "bundle"), "--output", str(folder), "--opset", str(opset)]
    cli.run(export, arguments)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "thing: rotations, 2 levels, crops of 32 x 32 px"
    assert re.match(r"head_1\.onnx +0\.0 MB  features, rotations -> logits", printed[3])
    about = describe(folder)
    assert about["opset"] == opset
    assert set(about["tensors"]) == {"crops", "features", "rotations", "logits"}
    for batch, n in ((1, 1), (3, 50)):
        crops = torch.rand((batch, 3, 32, 32), generator=generator)
        features = session(folder, about["backbone"])(crops=crops)
        assert_near(features, bundle.model.features(crops))
        rotations, _ = poses_near(torch.zeros(3), batch, n)
        for level, part in enumerate(about["heads"]):
            logits = session(folder, part)(features=features, rotations=rotations)
            assert_near(logits, bundle.model.logits(features, None, level, rotations, None))


def test_a_model_of_rotations_with_keypoints(tmp_path):
    """EfficientNet-Lite; the command itself compares every file with PyTorch."""
    shallow = save_shallow("shapes_cube", tmp_path / "shallow", depth=1)
    folder = export(shallow, str(tmp_path / "cube"), opset=20)
    about = describe(folder)
    assert about["rotation_only"] and about["tensors"]["features"]["shape"][0] == "batch"
    operators = {n.op_type for f in folder.glob("*.onnx") for n in load(f).graph.node}
    assert "Gelu" in operators and operators <= TENSORRT


def test_the_description(tiny_bundle, tiny, tmp_path):
    """Everything that is needed to use the files is in export.json."""
    about = describe(export(tiny, str(tmp_path / "out")))
    assert [head["temperature"] for head in about["heads"]] == tiny_bundle.temperatures
    assert [head["level"] for head in about["heads"]] == [0, 1, 2]
    assert about["object"]["center"] == tiny_bundle.object.center
    assert about["crop"] == {"resolution": 32, "padding": 1.5}
    shapes = {name: tensor["shape"] for name, tensor in about["tensors"].items()}
    assert shapes == {
        "crops": ["batch", 3, 32, 32],
        "features": ["batch", 8, 16, 16],
        "K_crop": ["batch", 3, 3],
        "rotations": ["batch", "poses", 3, 3],
        "translations": ["batch", "poses", 3],
        "logits": ["batch", "poses"],
    }
    for name, tensor in about["tensors"].items():
        loaded = [
            load(tmp_path / "out" / part["file"]).graph
            for part in (about["backbone"], *about["heads"])
        ]
        for value in (v for g in loaded for v in (*g.input, *g.output) if v.name == name):
            dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            assert dims == tensor["shape"]


def test_what_cannot_be_exported(tmp_path):
    """One line that says what is wrong; nothing is written."""
    output = tmp_path / "out"
    damaged = tmp_path / "damaged"
    shutil.copytree(MUG, damaged)
    weights = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(weights[:-100])
    for arguments, message in (
        ([str(damaged)], "is damaged or not the file that config.json describes"),
        ([str(tmp_path / "nothing")], "no model bundle at"),
        ([str(MUG), "--opset", "17"], "opset must be 18 to 23, got 17"),
    ):
        with pytest.raises(SystemExit, match=f"export: .*{message}"):
            cli.run(export, [*arguments, "--output", str(output)])
    with pytest.raises(ValueError, match="onnx, exported-program, got 'torchscript'"):
        export(str(MUG), str(output), "torchscript")
    assert not output.exists()


def test_the_command_refuses_an_unknown_format(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.run(export, [str(MUG), "--format", "torchscript"])
    assert stopped.value.code == 2
    assert "exported-program" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ValueError, match=f"needs {package}: pip install {package}"):
        export(str(MUG), str(tmp_path))


def test_an_exported_program_needs_no_package(tiny, tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    export(tiny, str(tmp_path / "out"), "exported-program")


def test_the_doc_names_every_tensor():
    named = set(re.findall(r"^\| `(\w+)` \|", DOC, re.MULTILINE))
    assert named == {"crops", "features", "K_crop", "rotations", "translations", "logits"}
