"""Writes small data sets in the exact BOP layout: rendered images with true masks and poses."""

import json

import cv2
import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from spyropose_ros.scenes.renderer import Light, Renderer, shade

WIDTH, HEIGHT = 160, 120
K = np.array([[400.0, 0, 80], [0, 400, 59], [0, 0, 1]])
BLOCK, CAN = 1, 2
COLOURS = {BLOCK: (220, 60, 40), CAN: (40, 90, 220)}
BACKGROUND = (90, 120, 90)


def meshes():
    """A block with a step, which has no symmetry, and a can; millimetres."""
    block = trimesh.util.concatenate(
        [trimesh.creation.box((100, 60, 30)), trimesh.creation.box((30, 40, 60))]
    )
    block.apply_translation([15, -5, 10])
    can = trimesh.creation.cylinder(radius=30, height=80, sections=48)
    for mesh, number in ((block, BLOCK), (can, CAN)):
        mesh.visual.vertex_colors = (*COLOURS[number], 255)
    return {BLOCK: block, CAN: can}


def models_info():
    """The block and the can with their facts, as the files have them."""
    infos = {}
    for number, mesh in meshes().items():
        distances = np.linalg.norm(mesh.vertices[:, None] - mesh.vertices[None], axis=-1)
        infos[str(number)] = {"diameter": distances.max()}
        for axis, low, size in zip("xyz", mesh.bounds[0], mesh.extents, strict=True):
            infos[str(number)] |= {f"min_{axis}": low, f"size_{axis}": size}
    infos[str(CAN)]["symmetries_continuous"] = [{"axis": [0, 0, 1], "offset": [0, 0, 0]}]
    turned = np.diag([1.0, -1, -1, 1]).ravel().tolist()
    infos[str(CAN)]["symmetries_discrete"] = [turned]
    return infos


def write_models(root, folder="models"):
    """Write meshes and models_info.json."""
    (root / folder).mkdir(parents=True)
    for number, mesh in meshes().items():
        mesh.export(root / folder / f"obj_{number:06d}.ply")
    (root / folder / "models_info.json").write_text(json.dumps(models_info()))


def write_scene(
    directory, seed, n=3, images="rgb", extension=".png", bits=8, camera="", masks=True
):
    """Write a scene: the block behind, the can in front of a part of it.

    Args:
        directory: the scene folder.
        seed: of the poses.
        n: number of images; image i is number 10 * i.
        images: "rgb" or "gray".
        extension: of the images.
        bits: per channel.
        camera: ends the names of all files and folders.
        masks: write mask_visib.
    """
    suffix = f"_{camera}" if camera else ""
    folder, mask_folder = directory / (images + suffix), directory / f"mask_visib{suffix}"
    for path in (folder, mask_folder):
        path.mkdir(parents=True)
    if not masks:
        mask_folder.rmdir()
    renderers = {number: Renderer(mesh.apply_scale(1e-3)) for number, mesh in meshes().items()}
    rng = np.random.default_rng(seed)
    cameras, truths, infos = {}, {}, {}
    for image_id in range(0, 10 * n, 10):
        R = Rotation.from_quat(rng.normal(size=(2, 4))).as_matrix()
        t = np.array([[-0.02, 0, 0.6], [0.048, 0, 0.52]]) + rng.uniform(-0.004, 0.004, (2, 3))
        buffers = [
            renderers[number].render(R[i], t[i], K, WIDTH, HEIGHT)
            for i, number in enumerate((BLOCK, CAN))
        ]
        picture, visible = compose(buffers)
        if images == "gray":
            picture = picture.mean(-1).astype(np.uint8)
        picture = picture.astype(np.uint16) * 257 if bits == 16 else picture
        cv2.imwrite(
            str(folder / f"{image_id:06d}{extension}"),
            picture[..., ::-1] if picture.ndim == 3 else picture,
        )
        for i, mask in enumerate(visible):
            if masks:
                path = mask_folder / f"{image_id:06d}_{i:06d}.png"
                cv2.imwrite(str(path), mask.astype(np.uint8) * 255)
        key = str(image_id)
        cameras[key] = {"cam_K": K.ravel().tolist(), "depth_scale": 0.1}
        truths[key] = [annotation(n, R[i], t[i]) for i, n in enumerate((BLOCK, CAN))]
        infos[key] = [facts(b.mask, v) for b, v in zip(buffers, visible, strict=True)]
    for name, content in (("camera", cameras), ("gt", truths), ("gt_info", infos)):
        (directory / f"scene_{name}{suffix}.json").write_text(json.dumps(content))


def compose(buffers):
    """The picture (RGB uint8) and the mask of what is visible of each object."""
    depths = np.stack([np.where(b.mask, b.depth, np.inf) for b in buffers])
    visible = [(depths.argmin(0) == i) & b.mask for i, b in enumerate(buffers)]
    light = Light(np.full(3, 0.5), np.array([[0, -0.6, -0.8]]), np.full((1, 3), 0.5), 0.0, 1.0)
    picture = np.full((HEIGHT, WIDTH, 3), BACKGROUND, np.float32) / 255
    for buffer, mask in zip(buffers, visible, strict=True):
        picture[mask] = shade(buffer.albedo, buffer.normals, light)[mask]
    return np.round(picture.clip(0, 1) * 255).astype(np.uint8), visible


def annotation(number, rotation, translation):
    """An entry of scene_gt.json; metres become millimetres."""
    return {
        "obj_id": number,
        "cam_R_m2c": rotation.ravel().tolist(),
        "cam_t_m2c": (translation * 1000).tolist(),
    }


def facts(silhouette, visible):
    """An entry of scene_gt_info.json for an object that lies within the image."""
    rows, columns = np.nonzero(visible)
    low = np.array([columns.min(), rows.min()])
    size = np.array([columns.max(), rows.max()]) - low
    count = int(visible.sum())
    return {
        "bbox_visib": [*map(int, low), *map(int, size)],
        "px_count_all": int(silhouette.sum()),
        "px_count_valid": int(silhouette.sum()),
        "px_count_visib": count,
        "visib_fract": count / int(silhouette.sum()),
    }


def change(path, edit):
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
