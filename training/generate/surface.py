"""One surface from the parts of a mesh file, with a colour at every face's corners."""

from typing import NamedTuple, cast

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.color import DEFAULT_COLOR

from spyropose_ros.scenes.renderer import GREY

_TEXTURE_STEPS = 64  # colours across the object; the renderer knows vertex colours only


class Surface(NamedTuple):
    """Triangles of an object.

    Attributes:
        mesh: without colours.
        colours: RGBA of every face's corners, [F, 3, 4] uint8; None if nothing has a colour.
        label: [F]; where it changes, the colour ends at an edge.
    """

    mesh: trimesh.Trimesh
    colours: np.ndarray | None
    label: np.ndarray


def join(parts: list[trimesh.Trimesh]) -> Surface:
    """Join the parts of a file.

    Args:
        parts: with a texture, with colours at vertices or faces, or without any.

    Returns:
        All of them as one; parts without a colour are grey where others have one.
    """
    corners = np.concatenate([part.bounds for part in parts])
    step = float(np.linalg.norm(np.ptp(corners, axis=0))) / _TEXTURE_STEPS
    plain = [_plain(part, step) for part in parts]
    meshes = [mesh for mesh, _ in plain]
    mesh = meshes[0] if len(meshes) == 1 else trimesh.util.concatenate(meshes)
    colours = None
    if any(colour is not None for _, colour in plain):
        grey = np.array([*3 * [round(GREY * 255)], 255], np.uint8)
        shapes = [(len(mesh.faces), 3, 4) for mesh in meshes]
        colours = np.concatenate(
            [
                np.broadcast_to(grey, shape) if colour is None else colour
                for shape, (_, colour) in zip(shapes, plain, strict=True)
            ]
        )
    labels: list[np.ndarray] = []
    for part, bare in zip(parts, meshes, strict=True):
        label = np.zeros(len(bare.faces), np.int64)
        visual = part.visual
        if isinstance(visual, ColorVisuals) and visual.kind == "face":
            label = np.unique(visual.face_colors, axis=0, return_inverse=True)[1].ravel()
        labels.append(label + (labels[-1].max() + 1 if labels else 0))
    return Surface(cast(trimesh.Trimesh, mesh), colours, np.concatenate(labels))


def _plain(part: trimesh.Trimesh, step: float) -> tuple[trimesh.Trimesh, np.ndarray | None]:
    """Return a part without its visual, and the colours of its faces' corners, [F, 3, 4]."""
    visual = part.visual
    if isinstance(visual, TextureVisuals):
        mesh, colours = _sampled(part, visual, step)
    else:
        mesh, colours = part, None
        assert isinstance(visual, ColorVisuals)
        if visual.kind == "vertex":
            colours = visual.vertex_colors[mesh.faces]
        elif visual.kind == "face":
            colours = np.repeat(visual.face_colors[:, None], 3, axis=1)
    # Materials and files without a colour come in this grey.
    if colours is not None and (colours == DEFAULT_COLOR).all():
        colours = None
    bare = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    return bare, None if colours is None else np.asarray(colours, np.uint8)


def _sampled(
    mesh: trimesh.Trimesh, visual: TextureVisuals, step: float
) -> tuple[trimesh.Trimesh, np.ndarray]:
    """Return a mesh whose vertices are at most a step apart, and its texture's colours there."""
    material = visual.material
    image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    if image is None or visual.uv is None:
        return mesh, np.broadcast_to(material.main_color, (len(mesh.faces), 3, 4))
    finer = cast(trimesh.Trimesh, mesh.subdivide_to_size(step, max_iter=20))
    colours = trimesh.visual.color.uv_to_color(cast(TextureVisuals, finer.visual).uv, _rgba(image))
    if getattr(material, "baseColorFactor", None) is not None:
        colours = np.round(colours * (material.main_color / 255.0))
    return finer, colours[finer.faces]


def _rgba(image: Image.Image) -> Image.Image:
    """Return a texture with 8 bits a channel; Pillow clips grey ones of 16 bits to white."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image.convert("RGBA")
