"""From messages to moments: the same for the node and for bags."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from spyropose_ros.core.errors import InputError, SpyroposeError
from spyropose_ros.core.lens.calibration import calibrate
from spyropose_ros.core.plots.pose_cloud import Mesh, PoseCloud
from spyropose_ros.core.plots.scene import CameraView
from spyropose_ros.ros.interfaces import CameraInfo, PoseDistribution, PoseDistributionArray
from spyropose_ros.ros.messages.conversions import pose_arrays, pose_matrix
from spyropose_ros.ros.pipeline import images, rotations, tf_buffer
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.drops import BadInputError
from spyropose_ros.viewer.moment import Moment, ObjectState, named, small_view

_IMAGES = 30  # of a camera, that wait for their distributions
_SLOP = 50_000_000  # nanoseconds between the images of several cameras
_UNKNOWN = 0.1  # metres: diameter of objects that ~/model_info does not tell of


@dataclass(frozen=True)
class _Model:
    """What ~/model_info tells of an object."""

    diameter: float = _UNKNOWN
    center: tuple[float, ...] = (0.0, 0.0, 0.0)
    mesh: Mesh | None = None
    features: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Collector:
    """Keeps what belongs to distributions until they come.

    Args:
        warn: logs a line; called with the same one again and again.
        rectified: whether images are rectified.
        fixed: poses of cameras that TF does not have: x, y, z, qx, qy, qz, qw, metres.
    """

    def __init__(
        self,
        warn: Callable[[str], object],
        rectified: bool = True,
        fixed: Mapping[str, tuple[float, ...]] | None = None,
    ) -> None:
        self._warn = warn
        self._rectified = rectified
        self._fixed = fixed or {}
        self._transforms = tf_buffer.TransformBuffer()
        self._images: dict[str, OrderedDict[int, Any]] = {}  # by camera and stamp
        self._info: dict[str, CameraInfo] = {}
        self._models: dict[str, _Model] = {}

    def add_image(self, camera: str, message: Any) -> None:
        """Keep an image, raw or compressed; it is decoded only if it is shown."""
        kept = self._images.setdefault(camera, OrderedDict())
        kept[nanoseconds(message.header.stamp)] = message
        while len(kept) > _IMAGES:
            kept.popitem(last=False)

    def add_camera_info(self, camera: str, message: CameraInfo) -> None:
        """Keep the newest calibration of a camera."""
        self._info[camera] = message

    def add_transforms(self, message: Any, static: bool) -> None:
        """Keep the transforms of /tf or /tf_static."""
        for text in self._transforms.add_message(message, static):
            self._warn(text)

    def add_model_info(self, message: Any) -> None:
        """Read which meshes and features belong to which models."""
        try:
            for entry in json.loads(message.data)["objects"]:
                size = float(entry["diameter"]), tuple(map(float, entry["center"]))
                points = {name: tuple(map(float, at)) for name, at in entry["features"].items()}
                model = _Model(*size, self._mesh(entry["mesh"]), points)
                self._models[entry["model_id"]] = model
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._warn(f"~/model_info is not of this version of the estimator ({error!r})")

    def moment(self, message: PoseDistributionArray, latency: float = math.nan) -> Moment:
        """Make a moment of distributions and what belongs to them.

        Args:
            message: of ~/distributions.
            latency: seconds from its image to its arrival.

        Returns:
            The moment; objects without poses, and cameras without image, calibration or pose, are
            left out.

        Raises:
            InputError: the numbers of the message are unusable.
        """
        found = [each for each in message.distributions if each.poses]
        names = named([each.class_id for each in found])
        objects = [self._object(*each) for each in zip(names, found, strict=True)]
        stamp, frame = nanoseconds(message.header.stamp), message.header.frame_id
        views = {camera: self._view(camera, stamp, frame) for camera in self._images}
        times = [each.inference_time.sec + 1e-9 * each.inference_time.nanosec for each in found]
        return Moment(
            1e-9 * stamp,
            objects,
            {camera: view for camera, view in views.items() if view is not None},
            times[0] if times and times[0] > 0 else math.nan,  # bags have none
            latency,
        )

    def _object(self, name: str, message: PoseDistribution) -> ObjectState:
        weights = np.asarray(message.weights, dtype=float)
        positions, quaternions = pose_arrays(message.poses)
        if len(weights) != len(positions):
            raise InputError(f"{name} has {len(positions)} poses and {len(weights)} weights")
        numbers = (weights, positions, quaternions)
        usable = all(np.isfinite(each).all() for each in numbers) and weights.min() >= 0
        if not usable or weights.sum() <= 0 or not np.linalg.norm(quaternions, axis=1).all():
            raise InputError(f"{name} has weights or poses that are no numbers, or zero")
        model = self._models.get(message.model_id)
        if model is None:
            self._warn(
                f"~/model_info has not told of model {message.model_id!r}: it is drawn without a "
                "mesh; is the topic model_info that of the estimator?"
            )
            model = _Model()
        cloud = PoseCloud(
            rotations.matrices(quaternions),
            positions,
            weights,
            [(*pose_matrix(mode.pose), mode.mass) for mode in message.modes],
            model.diameter,
            np.array(model.center),
            model.mesh,
            model.features,
        )
        return ObjectState(name, cloud, message.entropy, message.presence)

    def _view(self, camera: str, stamp: int, frame: str) -> CameraView | None:
        """Return the image nearest to a time, with where it was taken; None without one."""
        kept = self._images[camera]
        nearest = min(kept, key=lambda other: abs(other - stamp), default=None)
        info = self._info.get(camera)
        if nearest is None or abs(nearest - stamp) > _SLOP:
            return None
        if info is None:
            self._warn(f"no camera_info of {camera or 'the camera'}: its image is not shown")
            return None
        message = kept[nearest]
        try:
            pixels = images.decode(message)
            height, width = pixels.shape[:2]
            calibration = calibrate(info, width, height, self._rectified)
            pose = self._pose(camera, nearest, message.header.frame_id, frame)
            return small_view(calibration.rectify(pixels), calibration.K, pose)
        except (BadInputError, SpyroposeError) as error:
            self._warn(f"image of {camera or 'the camera'} is not shown: {error}")
            return None

    def _pose(self, camera: str, stamp: int, optical: str, frame: str) -> np.ndarray:
        """Return the pose of a camera in the frame of the distributions, [4, 4]."""
        if camera in self._fixed:
            pose = self._fixed[camera]
            return tf_buffer.pose_matrix(pose[:3], pose[3:])
        return self._transforms.lookup(frame, optical, stamp)

    def _mesh(self, resource: str | None) -> Mesh | None:
        if resource is None:
            return None
        try:
            return Mesh.read(_path(resource))
        except (SpyroposeError, PackageNotFoundError) as error:
            self._warn(f"{resource} is not shown: {error}")
            return None


def _path(resource: str) -> Path:
    """Return the file of package://... or file:///..."""
    parts = urlparse(resource)
    path = unquote(parts.path)
    if parts.scheme == "package":
        return Path(get_package_share_directory(parts.netloc)) / path.lstrip("/")
    return Path(path)
