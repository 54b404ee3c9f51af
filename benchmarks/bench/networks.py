"""The networks that are measured, and what they are shown."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor

from spyropose_ros.core import camera
from spyropose_ros.core.bundle import MESH, ModelBundle
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.network.backbone import resolve_backbone
from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel
from spyropose_ros.core.network.keypoints import farthest_points
from spyropose_ros.core.search import PosePyramid
from spyropose_ros.core.translation_grid import TranslationBox
from training import runs

DEMO = Path(__file__).parents[2] / "models/demo_mug"
PAPER_KEYPOINTS = 16
_JITTER = 0.03  # of the boxes of further detections, in their size


def open_network(name: str) -> ModelBundle:
    """Open a network by name.

    Args:
        name: "demo" is the shipped one; "paper" has the published sizes (ResNet-18, 224 px, a
            feature map of full resolution, 16 keypoints, 7 levels) and random weights; otherwise a
            run, or the folder of a bundle.

    Raises:
        BundleError: there is none.
        ValueError: it searches rotations only.
    """
    if name == "paper":
        return _paper()
    bundle = ModelBundle.from_pretrained(
        runs.bundle_directory(str(DEMO) if name == "demo" else name)
    )
    if bundle.model.config.rotation_only:
        raise ValueError(f"{name} searches rotations only: the benchmark is about SE(3)")
    return bundle


def _paper() -> ModelBundle:
    torch.manual_seed(0)
    demo = ModelBundle.from_pretrained(DEMO)
    architecture, _ = resolve_backbone("resnet18", pretrained=False)
    vertices = np.asarray(trimesh.load(DEMO / MESH, force="mesh").vertices)
    points = farthest_points(vertices - np.array(demo.object.center), PAPER_KEYPOINTS)
    model = PoseModel(ModelConfig(architecture), torch.from_numpy(points).float())
    info = replace(demo.object, keypoints=points.tolist())
    temperatures = [1.0] * model.config.depth
    return ModelBundle(
        model.eval().requires_grad_(False), info, temperatures, demo.record, name="paper size"
    )


def with_depth(bundle: ModelBundle, depth: int) -> ModelBundle:
    """Return the network with another depth, its last head used again for deeper levels.

    What such a network says at those levels means nothing: it is for timing only.
    """
    model = copy.deepcopy(bundle.model)
    heads, more = list(model.heads)[:depth], depth - len(model.heads)
    model.heads = torch.nn.ModuleList(heads + [heads[-1]] * more)
    model.config = replace(model.config, depth=depth)
    temperatures = bundle.temperatures[:depth] + bundle.temperatures[-1:] * more
    return replace(bundle, model=model, temperatures=temperatures)


@dataclass(frozen=True)
class Scene:
    """An image with detections.

    Attributes:
        image: RGB uint8 [H, W, 3].
        K: intrinsics, [3, 3].
        boxes: x0, y0, x1, y1 in pixels, [N, 4].
    """

    image: np.ndarray
    K: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, bundle: ModelBundle, data_root: str = "data") -> "Scene":
        """Return the first test image of the data that the network was trained for."""
        source = runs.bundle_source(bundle, data_root)
        sample = next(iter(source.samples(source.splits[0], seed=1)))
        return cls(sample.image, sample.K, sample.box[None])

    def crowded(self, detections: int) -> "Scene":
        """Return the same image with its first detection repeated, each slightly displaced."""
        noise = np.random.default_rng(0).normal(0, _JITTER, (detections, 4))
        noise[0] = 0
        first = self.boxes[0]
        boxes = first + noise * np.tile(first[2:] - first[:2], 2)
        return Scene(self.image, self.K, boxes)


@dataclass(frozen=True)
class Crops:
    """What the network gets to see of a scene.

    Attributes:
        crops: [B, 3, H, W].
        K_crop: [B, 3, 3].
        box: regions of translations, [B].
        features: of the estimator's network, [B, C, h, w].
    """

    crops: Tensor
    K_crop: Tensor
    box: TranslationBox
    features: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, estimator: Estimator, scene: Scene) -> "Crops":
        """Return the crops that the estimator cuts."""
        info, device = estimator.bundle.object, estimator.device
        boxes = torch.from_numpy(np.asarray(scene.boxes, np.float32)).to(device)
        K = torch.from_numpy(np.asarray(scene.K, np.float32)).to(device)
        centre = camera.translation_from_boxes(boxes, K, info.diameter, info.size_ratio)
        crops, K_crop = estimator.crops(scene.image, scene.K, centre)
        return cls(crops, K_crop, estimator.box(centre), features_of(estimator, crops))


def open_estimator(
    bundle: ModelBundle,
    device: torch.device | str,
    settings: SearchSettings,
    captured: bool = False,
) -> Estimator:
    """Open an estimator with a network of its own, whose kernels are launched one by one.

    Args:
        bundle: the network.
        device: where.
        settings: of the search.
        captured: leave a fixed beam on a GPU in CUDA graphs, as the estimator has it.
    """
    own = replace(bundle, model=copy.deepcopy(bundle.model))
    estimator = Estimator(own, device, settings)
    if not captured:
        estimator._captured = None
    return estimator


def features_of(estimator: Estimator, crops: Tensor) -> Tensor:
    """Compute the features of crops [B, 3, H, W] in the precision of the estimator's network."""
    dtype = next(estimator.model.extractor.parameters()).dtype
    return estimator.model.features(crops.to(dtype))


def search_features(estimator: Estimator, seen: Crops) -> PosePyramid:
    """Search as `Estimator.search_crops` does, but with features computed before."""
    model = estimator.model
    model.features = lambda _crops: seen.features  # hides the method
    try:
        return estimator.search_crops(seen.crops, seen.K_crop, seen.box)
    finally:
        del model.features
