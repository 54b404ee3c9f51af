"""The estimator: image, intrinsics and boxes in, pose distributions out.

The one implementation that the node, the evaluation, the demo and the benchmarks call.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spyropose_ros.core import camera
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.device import resolve_device, upload
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.inputs import check_boxes, check_image, check_intrinsics
from spyropose_ros.core.kernels.captured_search import CapturedSearch
from spyropose_ros.core.network.evidence import log_odds
from spyropose_ros.core.pose_prior import GridPrior, PosePrior
from spyropose_ros.core.pyramid import PosePyramid
from spyropose_ros.core.scorer import NetworkScorer, View, search_heads
from spyropose_ros.core.search import search, search_exhaustively
from spyropose_ros.core.search_settings import CROPS, SearchSettings
from spyropose_ros.core.translation_grid import TranslationBox, check_estimates


class Estimator:
    """Pose distributions of one object.

    On a GPU a network of keypoints computes in float16, and a search of a fixed beam (no mass
    tolerance, no prior) is captured in CUDA graphs, one for each batch size. Not for two threads
    at once.

    Args:
        bundle: the trained model; its weights and temperatures must not change afterwards.
        device: where to run; the GPU if there is one by default.
        settings: of the search.

    Raises:
        InputError: unknown or absent device, or a depth that the model does not have.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        device: str | torch.device | None = None,
        settings: SearchSettings = SearchSettings(),
    ):
        self.bundle = bundle
        self.device = resolve_device(device)
        self.settings = settings
        self.depth = settings.depth or bundle.model.config.depth
        if not 1 <= self.depth <= bundle.model.config.depth:
            raise InputError(
                f"depth {self.depth} is not available: the model has {bundle.model.config.depth} "
                "levels"
            )
        self.model = bundle.model.eval()
        self.rotation_only = bundle.model.config.rotation_only
        self._dtype = torch.float32
        if self.device.type == "cuda" and not self.rotation_only:
            self._dtype = torch.float16
            self.model = copy.deepcopy(self.model)  # the bundle's stays float32
            self.model.extractor.half()  # poses and projections need float32
        # PyTorch's own annotations lack the memory format.
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._heads = search_heads(self.model)
        self._temperatures = list(bundle.temperatures)
        presence = bundle.presence
        self._log_odds = None if presence is None else log_odds(presence, self.device)
        self._captured: CapturedSearch | None = None
        if self.device.type == "cuda" and settings.mass_tolerance == 0 and not settings.exhaustive:
            self._captured = CapturedSearch(self._scorer, self._presence, self.depth, settings.beam)
        self._center = torch.tensor(bundle.object.center, device=self.device)

    @classmethod
    def from_pretrained(
        cls,
        directory_or_hub_id: str | Path,
        device: str | torch.device | None = None,
        settings: SearchSettings = SearchSettings(),
    ) -> "Estimator":
        """Load a bundle; see `ModelBundle.from_pretrained` and the class for errors."""
        return cls(ModelBundle.from_pretrained(directory_or_hub_id), device, settings)

    def estimate(
        self,
        image: np.ndarray,
        K: np.ndarray,
        boxes: np.ndarray,
        translation_estimates: np.ndarray | None = None,
        priors: Sequence[PosePrior | None] | None = None,
    ) -> list[PoseDistribution]:
        """Estimate distributions of the object's pose, one per box, in one batched pass.

        A model of rotations only takes the translation estimates for the truth.

        Args:
            image: RGB uint8 [H, W, 3], or a PIL image of mode RGB.
            K: intrinsics of the (rectified) image, [3, 3].
            boxes: x0, y0, x1, y1 in pixels around the visible object, [N, 4]. They may reach over
                the border of the image, but their centres lie in it.
            translation_estimates: of the bounding-sphere centre in the camera frame, metres,
                [N, 3], where something better than the boxes is known.
            priors: N, each of the pose in the camera frame, or None where nothing is known.

        Returns:
            N distributions of the object frame in the camera's optical frame.

        Raises:
            InputError: malformed image, intrinsics or boxes, or another number of priors.
        """
        pyramid = self.search(image, K, boxes, translation_estimates, priors)
        return self._distributions(pyramid) if pyramid is not None else []

    @torch.inference_mode()
    def search(
        self,
        image: np.ndarray,
        K: np.ndarray,
        boxes: np.ndarray,
        translation_estimates: np.ndarray | None = None,
        priors: Sequence[PosePrior | None] | None = None,
    ) -> PosePyramid | None:
        """Estimate as `estimate` does, but keep all levels, for evaluation; None for no boxes."""
        image = check_image(image)
        boxes = check_boxes(boxes, image.shape[1], image.shape[0])
        if len(boxes) == 0:
            return None
        estimate = self.centers(K, boxes, translation_estimates)
        crops, K_crop = self.crops(image, K, estimate)
        return self.search_crops(crops, K_crop, self.box(estimate), priors)

    def centers(
        self, K: np.ndarray, boxes: np.ndarray, translation_estimates: np.ndarray | None = None
    ) -> Tensor:
        """Return what `estimate` takes for the bounding-sphere centres, metres, [N, 3].

        Args:
            K: intrinsics, [3, 3].
            boxes: x0, y0, x1, y1 in pixels, float32 [N, 4].
            translation_estimates: something better than the boxes, metres, [N, 3].

        Returns:
            The estimates in the camera frame, on the estimator's device.

        Raises:
            InputError: malformed intrinsics, or another number of estimates than of boxes.
        """
        if translation_estimates is None:
            info = self.bundle.object
            on_device = torch.from_numpy(boxes).to(self.device)
            return camera.translation_from_boxes(
                on_device, self._intrinsics(K), info.diameter, info.size_ratio
            )
        estimates = torch.from_numpy(np.array(translation_estimates, np.float32))
        if estimates.shape != (len(boxes), 3):
            raise InputError(
                f"translation_estimates must be [{len(boxes)}, 3], one for each box, "
                f"got {tuple(estimates.shape)}"
            )
        return estimates.to(self.device)

    def box(self, estimate: Tensor) -> TranslationBox:
        """Return the region of translations to search around centre estimates [B, 3], metres."""
        if self.rotation_only:
            check_estimates(estimate)
            return TranslationBox.known(estimate)
        return TranslationBox.from_detection(estimate, self.bundle.object.diameter)

    def crops(self, image: np.ndarray, K: np.ndarray, estimate: Tensor) -> tuple[Tensor, Tensor]:
        """Cut out what the model sees around translation estimates, V = settings.crops times each.

        Args:
            image: RGB uint8 [H, W, 3].
            K: intrinsics of the image, [3, 3].
            estimate: of the bounding-sphere centre, metres, [N, 3], on the estimator's device.

        Returns:
            Crops in [0, 1], [N V, 3, h, w], and their intrinsics, [N V, 3, 3].

        Raises:
            InputError: malformed image or intrinsics.
        """
        config, diameter = self.model.config, self.bundle.object.diameter
        pixels, intrinsics = upload(image, self.device), self._intrinsics(K)
        resolution, views = config.crop_resolution, self.settings.crops
        size, roll = torch.tensor(CROPS[:views], device=self.device).T.repeat(1, len(estimate))
        K_crop = camera.crop_intrinsics(
            estimate.repeat_interleave(views, 0),
            diameter,
            intrinsics,
            resolution,
            config.crop_padding * size,
            roll.deg2rad(),
        )
        # The same rounding as a stored crop in training.
        crops = camera.crop_image(pixels, intrinsics, K_crop, resolution)
        return crops.mul(255).round().div(255), K_crop

    @torch.inference_mode()
    def search_crops(
        self,
        crops: Tensor,
        K_crop: Tensor,
        box: TranslationBox,
        priors: Sequence[PosePrior | None] | None = None,
    ) -> PosePyramid:
        """Search where the crops and the regions are given, for evaluation.

        Args:
            crops: RGB in [0, 1], [B V, 3, H, W] of the model's resolution, the V of each region
                one after the other.
            K_crop: their intrinsics, [B V, 3, 3].
            box: region of translations of the bounding-sphere centre, [B].
            priors: B, as for `estimate`.

        Returns:
            All scored cells, for the B regions.
        """
        crops = crops.unflatten(0, (-1, self.settings.crops))
        K_crop = K_crop.unflatten(0, (-1, self.settings.crops))
        prior = None if priors is None else self._prior(priors, box)
        if self._captured is not None and prior is None:
            return self._captured(crops, K_crop, box)
        scorer = self._scorer(crops, K_crop)
        return self._search(scorer, box, prior, self.settings.mass_tolerance)

    def estimate_multiview(
        self,
        images: Sequence[np.ndarray],
        Ks: Sequence[np.ndarray],
        world_from_cameras: np.ndarray,
        translation_estimate: np.ndarray,
        fusion: str | float = "sum",
        prior: PosePrior | None = None,
        box: TranslationBox | None = None,
    ) -> PoseDistribution:
        """Estimate one distribution from several views of one object.

        The pyramid is built in the world frame; every cell is projected into every view and the
        views' logits are fused at every level. Fused levels are sharp: with a mass tolerance above
        0 the search may leave the cell of the truth unexpanded.

        Args:
            images: RGB uint8 [H, W, 3] each.
            Ks: intrinsics [3, 3] each.
            world_from_cameras: camera to world, [V, 4, 4].
            translation_estimate: bounding-sphere centre in the world, metres, [3].
            fusion: "sum" for independent views, "mean" for their geometric mean, "root" for the
                sum over the root of their number, which is between them, for networks whose errors
                are alike from view to view; or what the sum is divided by.
            prior: of the pose in the world frame.
            box: region of translations in the world, [1]. By default a cube as wide as the object
                where views cross; the box of `estimate` for a single one, which hardly sees depth.

        Returns:
            Distribution of the object frame in the world frame.

        Raises:
            InputError: no view, unequal counts, or an estimate behind a camera.
        """
        pyramid = self.search_multiview(
            images, Ks, world_from_cameras, translation_estimate, fusion, prior, box
        )
        return self._distributions(pyramid)[0]

    @torch.inference_mode()
    def search_multiview(
        self,
        images: Sequence[np.ndarray],
        Ks: Sequence[np.ndarray],
        world_from_cameras: np.ndarray,
        translation_estimate: np.ndarray,
        fusion: str | float = "sum",
        prior: PosePrior | None = None,
        box: TranslationBox | None = None,
    ) -> PosePyramid:
        """Estimate as `estimate_multiview` does, but keep all levels, for evaluation."""
        if not len(images) == len(Ks) == len(world_from_cameras) > 0:
            raise InputError(
                f"need as many images, Ks and camera poses, at least one; got {len(images)}, "
                f"{len(Ks)}, {len(world_from_cameras)}"
            )
        center, world_from = (
            torch.from_numpy(np.array(values, np.float32)).to(self.device)
            for values in (translation_estimate, world_from_cameras)
        )
        views: list[View] = []
        for image, K, camera_from in zip(images, Ks, torch.linalg.inv(world_from), strict=True):
            R, t = _split(camera_from)
            estimate = (R @ center + t).unsqueeze(0)
            if estimate[0, 2] <= 0:
                raise InputError("the translation estimate lies behind one of the cameras")
            crops, K_crop = self.crops(image, K, estimate)
            views += [
                View(self.features(crops[v : v + 1]), K_crop[v : v + 1], R, t)
                for v in range(self.settings.crops)
            ]
        if box is None:
            box = TranslationBox.cubic(center.unsqueeze(0), self.bundle.object.diameter)
            if len(images) == 1 or self.rotation_only:
                box = self.box(estimate).moved(*_split(world_from[-1]))

        divisor = _fusion_divisor(fusion, len(images)) * self.settings.crops
        scorer = NetworkScorer(self._heads, self._temperatures, views, divisor)
        # Several views make the coarse levels far too sharp to leave any mass there.
        tolerance = self.settings.mass_tolerance if len(images) == 1 else 0.0
        return self._search(scorer, box, self._prior([prior], box), tolerance)

    def warm_up(self, detections: int = 1) -> None:
        """Run once on an empty image, so that the first frame is not slow."""
        K = np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
        boxes = np.tile([270.0, 190.0, 370.0, 290.0], (detections, 1))
        self.estimate(np.zeros((480, 640, 3), np.uint8), K, boxes)

    def _prior(self, priors: Sequence[PosePrior | None], box: TranslationBox) -> GridPrior | None:
        """Put priors on the grids of the boxes; None where nothing is known of any."""
        prior = GridPrior(priors, box, self.depth)
        return None if all(known is None for known in priors) else prior

    def _search(
        self,
        scorer: NetworkScorer,
        box: TranslationBox,
        prior: GridPrior | None,
        mass_tolerance: float,
    ) -> PosePyramid:
        if self.settings.exhaustive:
            pyramid = search_exhaustively(scorer, box, self.depth - 1, prior)
        else:
            beam = self.settings.beam
            pyramid = search(scorer, box, self.depth, beam, mass_tolerance, prior)
        return replace(pyramid, presence=self._presence(scorer))

    def _presence(self, scorer: NetworkScorer) -> Tensor | None:
        """Return `PosePyramid.presence`: the log odds of the views are averaged.

        Views of one object err alike, so their odds are not multiplied.
        """
        if self._log_odds is None:
            return None
        odds = [self._log_odds(view.features) for view in scorer.views]
        return torch.stack(odds).mean(0).sigmoid()

    def _distributions(self, pyramid: PosePyramid) -> list[PoseDistribution]:
        diameter = self.bundle.object.diameter
        return [pyramid.distribution(b, self._center, diameter) for b in range(len(pyramid.box))]

    def _scorer(self, crops: Tensor, K_crop: Tensor) -> NetworkScorer:
        """Return a scorer that averages over crops [B, V, 3, H, W], intrinsics [B, V, 3, 3]."""
        count = crops.shape[1]
        features = self.features(crops.flatten(0, 1))  # all in one batch
        views = [View(features[v::count].contiguous(), K_crop[:, v]) for v in range(count)]
        return NetworkScorer(self._heads, self._temperatures, views, len(views))

    def features(self, crops: Tensor) -> Tensor:
        """Compute the model's `features` of crops [B, 3, H, W], in the estimator's precision."""
        return self.model.features(crops.to(self._dtype))

    def _intrinsics(self, K: np.ndarray) -> Tensor:
        """Check intrinsics and put them on the device, float32 [3, 3]."""
        return torch.tensor(check_intrinsics(K), dtype=torch.float32, device=self.device)


def _split(transform: Tensor) -> tuple[Tensor, Tensor]:
    """Split a [4, 4] transform into rotation [3, 3] and translation [3]."""
    return transform[:3, :3], transform[:3, 3]


def _fusion_divisor(fusion: str | float, n_views: int) -> float:
    """Return the number that the sum of the views' logits is divided by."""
    named = {"sum": 1.0, "root": n_views**0.5, "mean": float(n_views)}
    divisor = named.get(fusion, fusion) if isinstance(fusion, str) else fusion
    if isinstance(divisor, str) or not 0 < divisor < float("inf"):
        raise InputError(
            f"fusion must be 'sum', 'root', 'mean' or a positive number, got {fusion!r}"
        )
    return divisor
