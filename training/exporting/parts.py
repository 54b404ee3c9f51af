"""The files of `training.export`: the parts of a network, traced, written and checked."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from spyropose_ros.core import camera, so3
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.bundle_files import ObjectInfo
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.core.network.keypoint_model import PoseModel
from spyropose_ros.core.network.rotation_model import RotationModel


class ExportError(SpyroposeError, RuntimeError):
    """A file computes something other than PyTorch."""


Model = TypeVar("Model", bound=PoseModel | RotationModel)

Run = Callable[[dict[str, Tensor]], Tensor]
"""Inputs by name -> the output."""

PROGRAM_SUFFIX = ".pt2"
"""Of a torch.export program; other files are ONNX."""

TOLERANCE = 1e-4
"""Largest difference from PyTorch, absolute or relative."""

TRACED = {"batch": 2, "poses": 5}
CHECKED = {"batch": 3, "poses": 7}
"""Sizes of the tensors that a part is traced with, and compared on."""

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
        """Map crops [B, 3, H, W] in [0, 1] to features."""
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
        """Return logits as `PoseModel.logits`."""
        return self.model.logits(features, K_crop, self.level, rotations, translations)


class VectorHead(nn.Module):
    """Image vector and rotations -> logits of one level."""

    def __init__(self, model: RotationModel, level: int):
        super().__init__()
        self.model = model
        self.level = level

    def forward(self, features: Tensor, rotations: Tensor) -> Tensor:
        """Return logits as `RotationModel.logits`."""
        unused = features.new_empty(0)
        return self.model.logits(features, unused, self.level, rotations, unused)


def parts_of(model: PoseModel | RotationModel) -> list[Part]:
    """Return backbone and heads, coarse to fine."""
    heads = [f"heads.{level}" for level in range(model.config.depth)]
    parts = [Part("backbone", Backbone(_without(model, heads)).eval(), ("crops",), "features")]
    for level, name in enumerate(heads):
        others = [other for other in heads if other != name]
        head: nn.Module
        inputs: tuple[str, ...]
        if isinstance(model, RotationModel):
            head = VectorHead(_without(model, [*others, "encoder", "image"]), level)
            inputs = "features", "rotations"
        else:
            head = KeypointHead(_without(model, [*others, "extractor"]), level)
            inputs = "features", "K_crop", "rotations", "translations"
        parts.append(Part(f"head_{level}", head.eval(), inputs, "logits"))
    return parts


def _without(model: Model, names: Iterable[str]) -> Model:
    """Return a copy that lacks some submodules, so that a file holds only the weights it uses."""
    model = copy.deepcopy(model)
    for name in names:
        model.set_submodule(name, nn.Identity())
    return model


def shapes_of(model: PoseModel | RotationModel) -> dict[str, Shape]:
    """Return the shape of every tensor that goes in or comes out."""
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


def example_tensors(
    bundle: ModelBundle, shapes: dict[str, Shape], sizes: dict[str, int]
) -> dict[str, Tensor]:
    """Make noise as crops, and poses that put the object into them."""
    batch, poses = sizes["batch"], sizes["poses"]
    generator = torch.Generator().manual_seed(0)
    side = bundle.model.config.crop_resolution
    crops = torch.rand((batch, 3, side, side), generator=generator)
    K_crop, center = _view(bundle.object, side)
    offset = torch.randn((batch, poses, 3), generator=generator) * bundle.object.diameter / 4
    return {
        "crops": crops,
        "features": bundle.model.features(crops),
        "K_crop": K_crop.expand(batch, 3, 3).contiguous(),
        "rotations": so3.random_rotations(batch * poses, generator).unflatten(0, (batch, -1)),
        "translations": center + offset,
    }


def _view(info: ObjectInfo, resolution: int) -> tuple[Tensor, Tensor]:
    """Return intrinsics [1, 3, 3] of a crop and where the object is in it, metres, [1, 3]."""
    K = torch.tensor([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
    center = torch.tensor([[0.1, -0.05, 5.0]]) * info.diameter
    return camera.crop_intrinsics(center, info.diameter, K, resolution), center


def write(
    part: Part, path: Path, shapes: dict[str, Shape], example: dict[str, Tensor], opset: int
) -> Run:
    """Write a file and load it again."""
    dims = {name: torch.export.Dim(name) for name in TRACED}
    dynamic = {
        name: {axis: dims[size] for axis, size in enumerate(shapes[name]) if size in dims}
        for name in part.inputs
    }
    inputs = tuple(example[name] for name in part.inputs)
    with _quiet():
        if path.suffix == PROGRAM_SUFFIX:
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


def compare(part: Part, run: Run, tensors: dict[str, Tensor]) -> float:
    """Return the largest difference from PyTorch; ExportError where it is too large."""
    expected = part.module(*(tensors[name] for name in part.inputs))
    difference = (run(tensors) - expected).abs()
    if not bool((difference <= TOLERANCE * expected.abs().clamp_min(1)).all()):
        raise ExportError(
            f"{part.name} computes something other than PyTorch: the largest difference is "
            f"{float(difference.max()):.1e}; please report this with the versions of the packages"
        )
    return float(difference.max())
