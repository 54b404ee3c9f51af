"""Calls the estimator so that running out of memory, or NaN, costs one frame only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch

from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.pose_prior import PosePrior
from spyropose_ros.ros.pipeline.camera_frame import View
from spyropose_ros.ros.pipeline.drops import BadInputError, Drop, Reason

T = TypeVar("T")


def estimate_boxes(
    estimator: Estimator,
    view: View,
    boxes: np.ndarray,
    centers: np.ndarray,
    priors: Sequence[PosePrior | None],
    drop: Drop,
) -> list[PoseDistribution]:
    """Estimate the objects of one image in one pass, or in smaller ones if memory runs out.

    Args:
        estimator: of the objects.
        view: the image.
        boxes: left, top, right, bottom in pixels, [N, 4].
        centers: estimates of the bounding-sphere centres in the camera's frame, metres, [N, 3].
        priors: one per box; None if nothing is known.
        drop: called when batches get smaller.

    Returns:
        One distribution per box, on the CPU.

    Raises:
        BadInputError: if one box alone does not fit into memory, or the output is not finite.
    """
    try:
        found = guarded(
            lambda: estimator.estimate(view.image, view.K, boxes, centers, list(priors)),
            estimator.bundle.name,
            estimator.device,
        )
        return [distribution.to("cpu") for distribution in found]
    except OutOfMemoryError as error:
        half = len(boxes) // 2
        if half == 0:
            raise BadInputError(
                Reason.OUT_OF_MEMORY,
                f"one detection does not fit ({error}): lower search.beam or search.crops, free "
                "memory on the device, or choose another device",
            ) from error
        drop(
            Reason.SMALLER_BATCH,
            f"{len(boxes)} detections do not fit into memory at once ({error}) and are estimated "
            "in parts: lower detections.max_count or search.beam",
        )
    parts = [slice(None, half), slice(half, None)]
    return [
        distribution
        for part in parts
        for distribution in estimate_boxes(
            estimator, view, boxes[part], centers[part], priors[part], drop
        )
    ]


def estimate_views(
    estimator: Estimator,
    views: Sequence[View],
    center: np.ndarray,
    fusion: str,
    prior: PosePrior | None,
) -> PoseDistribution:
    """Estimate one object from several images.

    Args:
        estimator: of the object.
        views: the images that show it.
        center: estimate of the bounding-sphere centre in the common frame, metres, [3].
        fusion: 'sum', 'root' or 'mean'.
        prior: what is known of the pose, or None.

    Returns:
        The distribution in the common frame, on the CPU.

    Raises:
        BadInputError: if the views do not fit into memory, or the model's answer is not finite.
    """
    images, Ks = [view.image for view in views], [view.K for view in views]
    frame_from_cameras = np.stack([view.frame_from_camera for view in views])
    try:
        return guarded(
            lambda: estimator.estimate_multiview(
                images, Ks, frame_from_cameras, center, fusion, prior
            ),
            estimator.bundle.name,
            estimator.device,
        ).to("cpu")
    except OutOfMemoryError as error:
        raise BadInputError(
            Reason.OUT_OF_MEMORY,
            f"{len(views)} views do not fit into memory ({error}): lower search.beam or "
            "search.crops, free memory on the device, or choose another device",
        ) from error


class OutOfMemoryError(SpyroposeError):
    """The device has too little memory."""


def guarded(run: Callable[[], T], bundle: str, device: torch.device) -> T:
    """Run a network, and convert its failures to errors with a reason.

    Args:
        run: runs it.
        bundle: that it is from.
        device: where it runs.

    Returns:
        What it returns.

    Raises:
        OutOfMemoryError: if the device has too little memory.
        BadInputError: if its output is not finite.
    """
    try:
        return run()
    except FloatingPointError as error:
        raise BadInputError(
            Reason.BAD_OUTPUT,
            f"model {bundle}: {error}; if it happens often, the model is damaged: "
            "evaluate it, or export it again",
        ) from error
    except (MemoryError, RuntimeError) as error:
        # PyTorch's allocator for the CPU raises a plain RuntimeError
        text = str(error).partition("\n")[0]
        words = text.lower()
        known = isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
        if not (known or "out of memory" in words or "can't allocate memory" in words):
            raise
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise OutOfMemoryError(text or type(error).__name__) from None
