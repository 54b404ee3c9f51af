"""Export a bundle for other runtimes: `python -m training.export BUNDLE --output DIR`.

The network in parts, as the search calls them: the backbone (crops -> feature map) once per image,
then one head per pyramid level (feature map and poses -> logits). The side of the crops is fixed;
the numbers of crops and poses are not. Everything is float32. export.json beside the parts says
what goes in and comes out. Every file is run before the command ends and compared with PyTorch.

How to use the files, from ONNX Runtime or TensorRT: docs/export.md.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from spyropose_ros.core.errors import InputError
from training import cli, provenance, runs

if TYPE_CHECKING:
    from spyropose_ros.core.bundle import ModelBundle
    from training.exporting.parts import Part, Shape

MANIFEST = "export.json"

Format = Literal["onnx", "exported-program"]
SUFFIX = {"onnx": ".onnx", "exported-program": ".pt2"}
OPSETS = range(18, 24)
"""Of ONNX: what PyTorch's exporter writes and ONNX Runtime reads."""

MEANING = {
    "crops": "RGB in [0, 1]; the crop that K_crop describes",
    "features": "of the backbone, for every head",
    "K_crop": "intrinsics of the crops, pixel centres at integers",
    "rotations": "object to camera (x right, y down, z forward)",
    "translations": "of the object's bounding-sphere centre in the camera frame, metres",
    "logits": "unnormalised log-likelihoods; divide by the level's temperature",
}

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


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
        InputError: unknown format or opset, or missing packages.
        BundleError: missing or damaged bundle.
        ExportError: a file computes something other than PyTorch.
    """
    _check_request(format, opset)
    runs.require_bundle(run_or_bundle)

    from spyropose_ros.core.bundle import ModelBundle
    from training.exporting.parts import (
        CHECKED,
        TRACED,
        compare,
        example_tensors,
        parts_of,
        shapes_of,
        write,
    )

    bundle = ModelBundle.from_pretrained(runs.bundle_directory(run_or_bundle))
    shapes, parts = shapes_of(bundle.model), parts_of(bundle.model)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    example = example_tensors(bundle, shapes, TRACED)
    check = example_tensors(bundle, shapes, CHECKED)
    lines = [_title(bundle)]
    for part in parts:
        path = directory / (part.name + SUFFIX[format])
        run = write(part, path, shapes, example, opset)
        difference = compare(part, run, check)
        size = path.stat().st_size / 1e6
        signature = f"{', '.join(part.inputs)} -> {part.output}"
        lines.append(f"{path.name:14} {size:6.1f} MB  {signature}  (differs by {difference:.0e})")
    manifest = _manifest(bundle, parts, shapes, format, opset)
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    print("\n".join([*lines, f"written to {directory}, described in {MANIFEST}"]))
    return directory


def _check_request(format: str, opset: int) -> None:
    """Raise InputError for what cannot be written."""
    if format not in SUFFIX:
        raise InputError(f"format must be one of {', '.join(get_args(Format))}, got '{format}'")
    if format != "onnx":
        return
    if opset not in OPSETS:
        raise InputError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the format onnx needs {', '.join(missing)}: pip install {' '.join(missing)}, "
            "or .[export] in the source tree"
        )


def _manifest(
    bundle: ModelBundle, parts: list[Part], shapes: dict[str, Shape], format: str, opset: int
) -> dict:
    """Return the content of export.json."""
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
    cli.run(export, kept="files without export.json are not all: the same command starts again")
