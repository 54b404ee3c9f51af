"""From the messages of one camera to what the estimator needs of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter

import numpy as np
import torch

from spyropose_ros.core import camera
from spyropose_ros.core.bundle import ObjectInfo
from spyropose_ros.core.errors import CalibrationError, InputError
from spyropose_ros.core.inputs import usable
from spyropose_ros.core.lens.calibration import Calibration, calibrate
from spyropose_ros.ros.interfaces import CameraInfo
from spyropose_ros.ros.pipeline import exposure, images
from spyropose_ros.ros.pipeline.camera_frame import Frame, View
from spyropose_ros.ros.pipeline.depth import centers_from_depth, check_size
from spyropose_ros.ros.pipeline.detections import Target, select_targets, strongest
from spyropose_ros.ros.pipeline.drops import BadInputError, Drop, Reason
from spyropose_ros.ros.pipeline.models import Models
from spyropose_ros.ros.pipeline.parameters import Parameters


@dataclass(frozen=True)
class Observation:
    """What one camera sees.

    Attributes:
        view: the image.
        targets: what to estimate, with boxes in pixels of the image.
        centers: estimates of the bounding-sphere centres in the camera's frame, metres, [N, 3].
    """

    view: View
    targets: list[Target]
    centers: np.ndarray


def observe(
    frame: Frame,
    camera_from_frame: np.ndarray | None,
    models: Models,
    parameters: Parameters,
    drop: Drop,
    warn: Callable[[str], object],
    find: Callable[[View], list[Target]] | None = None,
) -> Observation:
    """Decode, check and rectify a frame, and choose its targets.

    Args:
        frame: the messages.
        camera_from_frame: see View.
        models: what can be estimated.
        parameters: present settings.
        drop: called with reason and text for every detection or depth image that is not used.
        warn: called with what is suspicious but may be intended.
        find: finds the targets of frames without detections, with boxes in the rectified image.

    Returns:
        The rectified image and its targets.

    Raises:
        BadInputError: if the frame cannot be used.
    """
    topic = "/".join(filter(None, [frame.camera, "camera_info"]))
    if frame.camera_info is None:
        raise BadInputError(
            Reason.NO_CAMERA_INFO,
            f"nothing arrived on {topic}: publish it along with the image, or remap",
        )
    raw = images.decode(frame.image)
    if flaw := exposure.flaw(raw):
        warn(f"{'/'.join(filter(None, [frame.camera, 'image_rect']))}: {flaw}")
    height, width = raw.shape[:2]
    try:
        calibration = calibrate(frame.camera_info, width, height, parameters.rectified)
    except CalibrationError as error:
        raise BadInputError(Reason.BAD_CAMERA_INFO, str(error)) from error
    for warning in calibration.warnings:
        warn(f"{topic}: {warning}")
    _check_frames(frame, frame.camera_info, warn)
    image = calibration.rectify(raw)
    view = View(frame.camera, frame.image.header, image, calibration.K, camera_from_frame)
    if find is None:
        targets = _targets(frame, calibration, models, parameters, width, height, drop)
    else:
        targets = _usable(find(view), width, height, drop)
        count = parameters.detections.max_count
        targets = strongest(targets, count, drop, "detector.min_score")
    centers = _centers_from_sizes(targets, calibration.K, models.objects)
    if parameters.depth_image and targets:
        depth = _depth(frame, calibration, width, height, drop)
        if depth is not None:
            boxes = np.array([target.box for target in targets])
            diameters = np.array([models.objects[t.object_name].diameter for t in targets])
            measured = centers_from_depth(depth, calibration.K, boxes, diameters)
            centers = np.where(np.isfinite(measured), measured, centers).astype(np.float32)
    return Observation(view, targets, centers)


def _check_frames(frame: Frame, info: CameraInfo, warn: Callable[[str], object]) -> None:
    """Warn of frame ids that differ, which some drivers and detectors leave wrong."""
    frame_id = frame.image.header.frame_id
    headers = {"camera_info": info.header}
    if frame.detections is not None:
        headers["detections"] = frame.detections.header
    for name, header in headers.items():
        other = header.frame_id
        if other not in ("", frame_id):
            topic = "/".join(filter(None, [frame.camera, name]))
            warn(f"{topic} is in frame '{other}' but the image in '{frame_id}'")


def _targets(
    frame: Frame,
    calibration: Calibration,
    models: Models,
    parameters: Parameters,
    width: int,
    height: int,
    drop: Drop,
) -> list[Target]:
    targets = []
    for target in select_targets(
        frame.detections,
        width,
        height,
        models.classes,
        parameters.detections.min_score,
        parameters.detections.max_count,
        drop,
    ):
        try:
            targets.append(replace(target, box=calibration.rectify_box(target.box)))
        except InputError as error:
            drop(Reason.BAD_BOX, str(error))
    return _usable(targets, width, height, drop)  # rectified, they may be beside the image


def _usable(targets: Sequence[Target], width: int, height: int, drop: Drop) -> list[Target]:
    """Return the targets whose boxes can be used."""
    return usable(targets, attrgetter("box"), width, height, partial(drop, Reason.BAD_BOX))


def _centers_from_sizes(
    targets: Sequence[Target], K: np.ndarray, objects: dict[str, ObjectInfo]
) -> np.ndarray:
    """Estimate centres from the sizes of the boxes, float32 [N, 3]."""
    intrinsics = torch.tensor(K, dtype=torch.float32)
    centers = [torch.zeros(0, 3)]
    for target in targets:
        info = objects[target.object_name]
        box = torch.tensor([target.box], dtype=torch.float32)
        centers.append(
            camera.translation_from_boxes(box, intrinsics, info.diameter, info.size_ratio)
        )
    return torch.cat(centers).numpy()


def _depth(
    frame: Frame, calibration: Calibration, width: int, height: int, drop: Drop
) -> np.ndarray | None:
    """Return rectified depth in metres [H, W]; None, which is counted, without any."""
    if frame.depth is None:
        drop(
            Reason.NO_DEPTH,
            "no depth image has the stamp of the image (sync.slop): publish it registered to the "
            "image, or set depth_image: false. The sizes of the boxes are used instead",
        )
        return None
    try:
        depth = images.decode_depth(frame.depth)
        check_size(depth, width, height)
    except BadInputError as error:
        drop(error.reason, f"{error}. The sizes of the boxes are used instead")
        return None
    return calibration.rectify_depth(depth)
