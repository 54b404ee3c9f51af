"""Export a bundle for other runtimes: `python -m training.export BUNDLE --output DIR`.

The network in parts, as the search calls them: the backbone (crops -> feature map) once per image,
then one head per pyramid level (feature map and poses -> logits). The side of the crops is fixed;
the numbers of crops and poses are not. Everything is float32. export.json beside the parts says
what goes in and comes out. Every file is run before the command ends and compared with PyTorch.

How to use the files, from ONNX Runtime or TensorRT: docs/export.md.
"""

import copy
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from spyropose_ros.core import camera, so3
from spyropose_ros.core.bundle import ModelBundle, ObjectInfo
from spyropose_ros.core.network.keypoint_model import PoseModel
from spyropose_ros.core.network.rotation_model import RotationModel
from training import cli, provenance, runs

MANIFEST = "export.json"

Format = Literal["onnx", "exported-program"]
Run = Callable[[dict[str, Tensor]], Tensor]
"""Inputs by name -> the output."""

SUFFIX = {"onnx": ".onnx", "exported-program": ".pt2"}
OPSETS = range(18, 24)
"""Of ONNX: what PyTorch's exporter writes and ONNX Runtime reads."""

TOLERANCE = 1e-4
"""Largest difference from PyTorch, absolute or relative."""

MEANING = {
    "crops": "RGB in [0, 1]; the crop that K_crop describes",
    "features": "of the backbone, for every head",
    "K_crop": "intrinsics of the crops, pixel centres at integers",
    "rotations": "object to camera (x right, y down, z forward)",
    "translations": "of the object's bounding-sphere centre in the camera frame, metres",
    "logits": "unnormalised log-likelihoods; divide by the level's temperature",
}

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_TRACED = {"batch": 2, "poses": 5}
_CHECKED = {"batch": 3, "poses": 7}

Shape = tuple[int | str, ...]
"""Of a tensor; a name where the size is free."""


@dataclass(frozen=True)
class Part:
    """One file.

    Attributes:
        name: of the file, without suffix.
        module: takes the inputs by position.
        inputs: names, in order.
        output: name.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    output: str


class Backbone(nn.Module):
    """Crops -> feature map, or image vector."""

    def __init__(self, model: PoseModel | RotationModel):
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] -> features."""
        return self.model.features(crops)


class KeypointHead(nn.Module):
    """Feature map and poses -> logits of one level."""

    def __init__(self, model: PoseModel, level: int):
        super().__init__()
        self.model = model
        self.level = level

    def forward(
        self, features: Tensor, K_crop: Tensor, rotations: Tensor, translations: Tensor
    ) -> Tensor:
        """As `PoseModel.logits`."""
        return self.model.logits(features, K_crop, self.level, rotations, translations)


class VectorHead(nn.Module):
    """Image vector and rotations -> logits of one level."""

    def __init__(self, model: RotationModel, level: int):
        super().__init__()
        self.model = model
        self.level = level

    def forward(self, features: Tensor, rotations: Tensor) -> Tensor:
        """As `RotationModel.logits`."""
        return self.model.logits(features, None, self.level, rotations, None)


def export(
    run_or_bundle: str, output: str = "exported", format: Format = "onnx", opset: int = 18
) -> Path:
    """Write the backbone, the heads and export.json, and compare every file with PyTorch.

    Args:
        run_or_bundle: run id, folder of a bundle or hub id.
        output: folder, created when missing.
        format: "onnx", or "exported-program" for torch.export.load and what is built on it.
        opset: of ONNX, 18 to 23; 18 has the widest support.

    Returns:
        The folder.

    Raises:
        ValueError: unknown format or opset, or missing packages.
        BundleError: missing or damaged bundle.
        RuntimeError: a file computes something else than PyTorch.
    """
    _check_request(format, opset)
    bundle = ModelBundle.from_pretrained(runs.bundle_directory(run_or_bundle))
    shapes, parts = _shapes(bundle.model), _parts(bundle.model)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    example = _tensors(bundle, shapes, _TRACED)
    check = _tensors(bundle, shapes, _CHECKED)
    lines = [_title(bundle)]
    for part in parts:
        path = directory / (part.name + SUFFIX[format])
        run = _write(part, path, shapes, example, opset)
        difference = _compare(part, run, check)
        size = path.stat().st_size / 1e6
        signature = f"{', '.join(part.inputs)} -> {part.output}"
        lines.append(f"{path.name:14} {size:6.1f} MB  {signature}  (differs by {difference:.0e})")
    manifest = _manifest(bundle, parts, shapes, format, opset)
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    print("\n".join([*lines, f"written to {directory}, described in {MANIFEST}"]))
    return directory


def _check_request(format: str, opset: int) -> None:
    """Raise ValueError for what cannot be written."""
    if format not in SUFFIX:
        raise ValueError(f"format must be one of {', '.join(get_args(Format))}, got '{format}'")
    if format != "onnx":
        return
    if opset not in OPSETS:
        raise ValueError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the format onnx needs {', '.join(missing)}: pip install {' '.join(missing)}, "
            "or .[export] in the source tree"
        )


def _parts(model: PoseModel | RotationModel) -> list[Part]:
    """Backbone and heads, coarse to fine."""
    heads = [f"heads.{level}" for level in range(model.config.depth)]
    parts = [Part("backbone", Backbone(_without(model, heads)).eval(), ("crops",), "features")]
    for level, name in enumerate(heads):
        others = [other for other in heads if other != name]
        if isinstance(model, RotationModel):
            head = VectorHead(_without(model, [*others, "encoder", "image"]), level)
            inputs = ("features", "rotations")
        else:
            head = KeypointHead(_without(model, [*others, "extractor"]), level)
            inputs = ("features", "K_crop", "rotations", "translations")
        parts.append(Part(f"head_{level}", head.eval(), inputs, "logits"))
    return parts


def _without(model: PoseModel | RotationModel, names: Iterable[str]) -> PoseModel | RotationModel:
    """A copy that lacks some submodules, so that a file holds only the weights it uses."""
    model = copy.deepcopy(model)
    for name in names:
        model.set_submodule(name, nn.Identity())
    return model


def _shapes(model: PoseModel | RotationModel) -> dict[str, Shape]:
    """Of every tensor that goes in or comes out."""
    side = model.config.crop_resolution
    features = model.features(torch.zeros(1, 3, side, side)).shape[1:]
    shapes: dict[str, Shape] = {
        "crops": ("batch", 3, side, side),
        "features": ("batch", *features),
        "rotations": ("batch", "poses", 3, 3),
        "logits": ("batch", "poses"),
    }
    if isinstance(model, PoseModel):
        shapes |= {"K_crop": ("batch", 3, 3), "translations": ("batch", "poses", 3)}
    return shapes


def _tensors(
    bundle: ModelBundle, shapes: dict[str, Shape], sizes: dict[str, int]
) -> dict[str, Tensor]:
    """Noise as crops, and poses that put the object into them."""
    batch, poses = sizes["batch"], sizes["poses"]
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand((batch, *shapes["crops"][1:]), generator=generator)
    K_crop, center = _view(bundle.object, bundle.model.config.crop_resolution)
    offset = torch.randn((batch, poses, 3), generator=generator) * bundle.object.diameter / 4
    return {
        "crops": crops,
        "features": bundle.model.features(crops),
        "K_crop": K_crop.expand(batch, 3, 3).contiguous(),
        "rotations": so3.random_rotations(batch * poses, generator).unflatten(0, (batch, -1)),
        "translations": center + offset,
    }


def _view(info: ObjectInfo, resolution: int) -> tuple[Tensor, Tensor]:
    """Intrinsics [1, 3, 3] of a crop and where the object is in it, metres, [1, 3]."""
    K = torch.tensor([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
    center = torch.tensor([[0.1, -0.05, 5.0]]) * info.diameter
    return camera.crop_intrinsics(center, info.diameter, K, resolution), center


def _write(
    part: Part, path: Path, shapes: dict[str, Shape], example: dict[str, Tensor], opset: int
) -> Run:
    """Write a file and load it again."""
    dims = {name: torch.export.Dim(name) for name in _TRACED}
    dynamic = {
        name: {axis: dims[size] for axis, size in enumerate(shapes[name]) if size in dims}
        for name in part.inputs
    }
    inputs = tuple(example[name] for name in part.inputs)
    with _quiet():
        if path.suffix == SUFFIX["exported-program"]:
            program = torch.export.export(part.module, inputs, dynamic_shapes=dynamic)
            torch.export.save(program, path)
            return _run_program(part, path)
        torch.onnx.export(
            part.module,
            inputs,
            path,
            input_names=part.inputs,
            output_names=(part.output,),
            dynamic_shapes=dynamic,
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return _run_onnx(part, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _run_program(part: Part, path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda tensors: module(*(tensors[name] for name in part.inputs))


def _run_onnx(part: Part, path: Path) -> Run:
    import onnxruntime  # only here: it is optional

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(tensors: dict[str, Tensor]) -> Tensor:
        (output,) = session.run(None, {name: tensors[name].numpy() for name in part.inputs})
        return torch.from_numpy(output)

    return run


def _compare(part: Part, run: Run, tensors: dict[str, Tensor]) -> float:
    """Largest difference from PyTorch; RuntimeError where it is too large."""
    expected = part.module(*(tensors[name] for name in part.inputs))
    difference = (run(tensors) - expected).abs()
    if not bool((difference <= TOLERANCE * expected.abs().clamp_min(1)).all()):
        raise RuntimeError(
            f"{part.name} computes something else than PyTorch: the largest difference is "
            f"{float(difference.max()):.1e}; please report this with the versions of the packages"
        )
    return float(difference.max())


def _manifest(
    bundle: ModelBundle, parts: list[Part], shapes: dict[str, Shape], format: str, opset: int
) -> dict:
    """What export.json says."""
    config, info = bundle.model.config, bundle.object
    backbone, *heads = (
        {"file": p.name + SUFFIX[format], "inputs": p.inputs, "output": p.output} for p in parts
    )
    return {
        "format": format,
        **({"opset": opset} if format == "onnx" else {}),
        "package_version": provenance.package_version(),
        "model": {"name": bundle.name, "sha256": runs.fingerprint(bundle)},
        "object": {
            "name": info.name,
            "center": info.center,
            "diameter": info.diameter,
            "size_ratio": info.size_ratio,
            "units": "metres, in object coordinates",
        },
        "rotation_only": config.rotation_only,
        "crop": {"resolution": config.crop_resolution, "padding": config.crop_padding},
        "tensors": {
            name: {"shape": shapes[name], "dtype": "float32", "meaning": meaning}
            for name, meaning in MEANING.items()
            if name in shapes
        },
        "backbone": backbone,
        "heads": [
            head | {"level": level, "temperature": bundle.temperatures[level]}
            for level, head in enumerate(heads)
        ],
    }


def _title(bundle: ModelBundle) -> str:
    config = bundle.model.config
    kind = "rotations" if config.rotation_only else "poses"
    side = config.crop_resolution
    return f"{bundle.object.name}: {kind}, {config.depth} levels, crops of {side} x {side} px"


if __name__ == "__main__":
    cli.run(export)
