"""Read a mesh file of any kind: its parts, and what of its colours is lost."""

import importlib
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import trimesh
from trimesh.visual import TextureVisuals

from spyropose_ros.core.commands import starter
from spyropose_ros.core.errors import DataError
from spyropose_ros.scenes.meshes import obj, ply, stl
from spyropose_ros.scenes.meshes.assets import Assets, is_whole

_PACKAGES = {
    ".3mf": ("lxml", "lxml"),
    ".dae": ("collada", "pycollada"),
    ".step": ("cascadio", "cascadio"),
    ".stp": ("cascadio", "cascadio"),
}
"""What trimesh needs for formats that few people use: module and package."""

_COLOURS = ("vertex_colors", "face_colors")
_OTHERS = (".glb", ".gltf", ".off", *_PACKAGES)
_GLB_HEADER = 20  # bytes before the JSON text
_COMPRESSED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")
_COLOURS_OF_3MF = (b"basematerials", b"colorgroup", b"texture2dgroup")


class MeshFile(NamedTuple):
    """Content of a file.

    Attributes:
        parts: meshes in the file's unit and frame: with a texture, or with colours at vertices or
            faces, or without a colour.
        lost: what of the colours could not be read.
    """

    parts: list[trimesh.Trimesh]
    lost: list[str]


def read_mesh_file(path: Path) -> MeshFile:
    """Read a file.

    Args:
        path: of a PLY, OBJ, STL, GLB, glTF, OFF, 3MF, DAE or STEP file (of STEP in metres).

    Returns:
        What is in it.

    Raises:
        DataError: it is damaged or cut off, or of another kind; the message is a reason that fits
            into brackets.
        OSError: it cannot be read.
    """
    assets = Assets(path.parent)
    content = path.read_bytes()
    if not content:
        raise DataError("it is empty")
    with _quiet():
        try:
            parts = _parts(path, content, assets)
        except DataError:
            raise
        except FileNotFoundError as error:
            raise DataError(f"it refers to {error}, which is missing") from error
        except Exception as error:  # trimesh raises whatever its parser stumbles over
            raise DataError(f"it is cut off or damaged: {error}") from error
    return MeshFile([part for part in parts if len(part.faces)], list(dict.fromkeys(assets.lost)))


def _parts(path: Path, content: bytes, assets: Assets) -> list[trimesh.Trimesh]:
    kind = path.suffix.lower()
    if kind == ".obj":
        loaded = obj.load(content, path.stem, assets)
    elif kind == ".ply":
        loaded = ply.load(content, assets)
    elif kind == ".stl":
        loaded = stl.load(content)
    elif kind in _OTHERS:
        return _other_parts(kind, content, assets)
    else:
        raise DataError(f"a '{kind}' file cannot be read")
    loaded = [arguments for arguments in loaded if arguments.get("faces") is not None]
    for key in _COLOURS:
        coloured = [arguments for arguments in loaded if arguments.get(key) is not None]
        colours = _to_uint8([np.asarray(arguments[key]) for arguments in coloured])
        for arguments, values in zip(coloured, colours, strict=True):
            arguments[key] = values
    return [_part(arguments) for arguments in loaded]


def _part(arguments: dict[str, Any]) -> trimesh.Trimesh:
    """Return a mesh with the one kind of colour that counts."""
    if arguments.get("visual") is None:
        arguments.pop("visual", None)
    else:
        arguments |= dict.fromkeys(_COLOURS)
    return trimesh.Trimesh(**arguments, process=False)


def _to_uint8(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Return the colours of a file's parts, which are stored from 0 to 1, 255 or 65535."""
    highest = max((colours[:, :3].max(initial=0) for colours in parts), default=0)
    if any(colours.dtype.kind == "f" for colours in parts):
        scale = 255.0 if highest <= 1 else 1.0
    else:
        scale = 1.0 if highest <= 255 else 255 / 65535
    return [
        np.clip(np.round(np.nan_to_num(colours) * scale), 0, 255).astype(np.uint8)
        for colours in parts
    ]


def _other_parts(kind: str, content: bytes, assets: Assets) -> list[trimesh.Trimesh]:
    """Read what trimesh reads well by itself."""
    textured: dict[str | None, str | None] = {}
    if kind in (".glb", ".gltf"):
        textured = _check_gltf(kind, content)
    if kind == ".3mf":
        _check_3mf(content, assets)
    if kind in _PACKAGES:
        _require_package(kind)
    scene = trimesh.load_scene(
        io.BytesIO(content), file_type=kind[1:], resolver=cast(Any, assets), process=False
    )
    parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh)]
    for part in parts:
        _settle_material(part, textured, assets)
    return parts


def _require_package(kind: str) -> None:
    module, package = _PACKAGES[kind]
    try:
        importlib.import_module(module)
    except ImportError as error:
        remedy = f"install it with '{starter()} -m pip install {package}'"
        raise DataError(f"'{kind}' files need the Python package {package}: {remedy}") from error


def _settle_material(
    part: trimesh.Trimesh, textured: dict[str | None, str | None], assets: Assets
) -> None:
    """Take colours at vertices where there is no texture; note a texture that is not there."""
    visual = part.visual
    if not isinstance(visual, TextureVisuals):
        return
    material = visual.material
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if image is not None and visual.uv is not None and is_whole(image):
        return
    colours = visual.vertex_attributes.get("color")
    lost = image is not None or material.name in textured
    if lost and textured.get(material.name) not in assets.failed:  # which are told by their name
        whose = f" of material {material.name}" if material.name else ""
        assets.lost.append(f"the texture{whose} cannot be read")
    if colours is not None:
        full = 1.0 if colours.dtype.kind == "f" else np.iinfo(colours.dtype).max
        colours = np.clip(np.round(colours / full * 255), 0, 255).astype(np.uint8)
        part.visual = trimesh.visual.ColorVisuals(part, vertex_colors=colours)
    elif lost:
        part.visual = trimesh.visual.ColorVisuals(part)


def _check_gltf(kind: str, content: bytes) -> dict[str | None, str | None]:
    """Return the files of the materials' textures by name; refuse what trimesh cannot read.

    A texture within the file is there as None.
    """
    text = content
    if kind == ".glb":
        if content[:4] != b"glTF" or len(content) < _GLB_HEADER:
            raise DataError("it is no GLB file")
        size = int.from_bytes(content[8:12], "little")
        if len(content) < size:
            raise DataError(f"it is cut off: {len(content)} of {size} bytes are there")
        text = content[_GLB_HEADER : _GLB_HEADER + int.from_bytes(content[12:16], "little")]
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise DataError(f"it is cut off or damaged: {error}") from error
    compressed = set(tree.get("extensionsRequired", ())) & set(_COMPRESSED)
    if compressed:
        raise DataError(f"it is compressed with {compressed.pop()}: export it uncompressed")
    files = {}
    for material in tree.get("materials", []):
        texture = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
        if texture is not None:
            source = tree["textures"][texture["index"]].get("source")
            image = {} if source is None else tree["images"][source]
            files[material.get("name")] = image.get("uri")
    return files


def _check_3mf(content: bytes, assets: Assets) -> None:
    """Note colours, which trimesh does not read."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            models = [archive.read(name) for name in archive.namelist() if name.endswith(".model")]
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"it is cut off or damaged: {error}") from error
    if any(word in model for model in models for word in _COLOURS_OF_3MF):
        assets.lost.append("colours in 3MF files cannot be read: export it as GLB, OBJ or PLY")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence trimesh, which logs tracebacks of textures that it cannot read."""
    before = trimesh.util.log.disabled
    trimesh.util.log.disabled = True
    try:
        yield
    finally:
        trimesh.util.log.disabled = before
