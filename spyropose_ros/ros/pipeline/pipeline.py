"""From frame sets to pose distributions: the same for the node and for bags."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Sequence

import numpy as np

from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.pose_prior import PosePrior
from spyropose_ros.ros.interfaces import Header
from spyropose_ros.ros.pipeline.association import CameraTargets, Group, associate
from spyropose_ros.ros.pipeline.camera_frame import (
    Detection,
    Frame,
    FrameSet,
    Result,
    View,
    nanoseconds,
)
from spyropose_ros.ros.pipeline.detections import Target
from spyropose_ros.ros.pipeline.drops import BadInputError, Drop, Reason
from spyropose_ros.ros.pipeline.finder import Finder
from spyropose_ros.ros.pipeline.following import Follower
from spyropose_ros.ros.pipeline.inference import estimate_boxes, estimate_views, guarded
from spyropose_ros.ros.pipeline.models import Models
from spyropose_ros.ros.pipeline.observation import Observation, observe
from spyropose_ros.ros.pipeline.parameters import Parameters
from spyropose_ros.ros.pipeline.tf_buffer import TransformBuffer, TransformError, pose_matrix
from spyropose_ros.ros.pipeline.tracks import TemporalSettings, Tracks

Find = Callable[[View], list[Target]]


class Pipeline:
    """Estimates the frames of one or several cameras. Not thread-safe.

    Args:
        models: the estimators.
        transforms: buffer of TF.
        drop: called for everything that is not used.
        warn: called with what is suspicious but may be intended.
        debug: called with the tracebacks of unexpected errors.
        finder: finds the objects of frames that come without detections.
    """

    def __init__(
        self,
        models: Models,
        transforms: TransformBuffer,
        drop: Drop,
        warn: Callable[[str], object],
        debug: Callable[[str], object],
        finder: Finder | None = None,
    ) -> None:
        self.models = models
        self.finder = finder
        self._debug = debug
        self._transforms = transforms
        self._drop = drop
        self._warn = warn
        self._tracks = Tracks(TemporalSettings())
        self._follower = Follower()
        self._detection: Detection | None = None  # in the present frame set
        self._epoch = 0  # that the tracks belong to

    def process(self, frame_set: FrameSet, parameters: Parameters) -> Result | None:
        """Estimate everything that the frames show; never raise.

        Args:
            frame_set: one frame, or with ``parameters.cameras`` at most one of each camera.
            parameters: present settings.

        Returns:
            The result; None if no frame could be used, which is counted with its reason.
        """
        if frame_set.epoch != self._epoch:
            self._tracks.reset()
            self._follower.reset()
            self._epoch = frame_set.epoch
        self._detection = None
        try:
            find = self._way_to_find(frame_set, parameters)
        except BadInputError as error:
            self._drop(error.reason, str(error), len(frame_set.frames))
            return None
        seen = []
        for frame in frame_set.frames:
            try:
                seen.append(self._observe(frame, parameters, find))
            except Exception as error:  # whatever one frame does, the next is processed
                self._drop(*self._explain(error, frame.camera))
        if not seen:
            return None
        try:
            return (
                self._fuse(seen, parameters)
                if parameters.cameras
                else self._estimate(seen[0], parameters)
            )
        except Exception as error:
            self._drop(*self._explain(error), len(seen))
            return None

    def _way_to_find(self, frame_set: FrameSet, parameters: Parameters) -> Find | None:
        """Return how the targets of frames without detections are found; None for the others.

        Raises:
            BadInputError: if the frames are not to be detected in and there is nothing to follow.
        """
        finder = self.finder
        if finder is None:
            return None
        stamp = max(_seconds(frame.image.header) for frame in frame_set.frames)
        if self._follower.begin(stamp, parameters):
            return lambda view: self._detect(view, finder, parameters)
        return lambda view: self._follow(view, parameters)

    def _detect(self, view: View, finder: Finder, parameters: Parameters) -> list[Target]:
        self._follower.count_detection()
        start = time.monotonic()
        min_score = max(parameters.detector.min_score, parameters.detections.min_score)
        targets = finder.find(view.image, min_score)
        before = self._detection or Detection(0.0, 0)  # in other cameras
        seconds = before.seconds + time.monotonic() - start
        self._detection = Detection(seconds, before.boxes + len(targets))
        return targets

    def _follow(self, view: View, parameters: Parameters) -> list[Target]:
        camera_from_rest = view.camera_from_frame
        if camera_from_rest is None:
            pose = self._camera_pose(view.camera, view.header, parameters)
            camera_from_rest = np.linalg.inv(pose)
        return self._follower.targets(view, camera_from_rest, self.models.objects)

    def _observe(self, frame: Frame, parameters: Parameters, find: Find | None) -> Observation:
        camera_from_frame = None
        if parameters.cameras:
            camera_from_frame = np.linalg.inv(
                self._camera_pose(frame.camera, frame.image.header, parameters)
            )
        return observe(
            frame, camera_from_frame, self.models, parameters, self._drop, self._warn, find
        )

    def _camera_pose(self, camera: str, header: Header, parameters: Parameters) -> np.ndarray:
        """Return the camera's pose in the fixed frame, [4, 4]; without one, it is at rest."""
        if not parameters.fixed_frame:
            return np.eye(4)
        fixed = parameters.fixed_cameras.get(camera)
        if fixed is not None:
            return pose_matrix(fixed[:3], fixed[3:])
        try:
            return self._transforms.lookup(
                parameters.fixed_frame, header.frame_id, nanoseconds(header.stamp)
            )
        except TransformError as error:
            raise BadInputError(Reason.NO_TRANSFORM, str(error)) from error

    def _explain(self, error: Exception, camera: str = "") -> tuple[Reason, str]:
        prefix = f"camera {camera}: " if camera else ""
        if isinstance(error, BadInputError):
            return error.reason, f"{prefix}{error}"
        self._debug("".join(traceback.format_exception(error)))
        remedy = "if it repeats, report it with the traceback (log_level:=debug)"
        return Reason.ERROR, f"{prefix}{type(error).__name__}: {error}; {remedy}"

    # ---- one camera --------------------------------------------------------------------------

    def _estimate(self, seen: Observation, parameters: Parameters) -> Result:
        start = time.monotonic()
        names = [target.object_name for target in seen.targets]
        motion = self._camera_motion(seen, parameters)
        priors: Sequence[PosePrior | None] = [None] * len(names)
        if motion is not None:
            priors = self._priors(names, seen.centers, seen.view.header, motion, parameters)
        results: dict[int, PoseDistribution] = {}
        for name in dict.fromkeys(names):  # one batched pass per model
            mine = [index for index, other in enumerate(names) if other == name]
            found = estimate_boxes(
                self.models.estimator(name),
                seen.view,
                np.array([seen.targets[index].box for index in mine]),
                seen.centers[mine],
                [priors[index] for index in mine],
                self._drop,
            )
            results |= zip(mine, self._verified(name, seen, mine, found), strict=True)
        distributions = [results[index] for index in range(len(names))]
        if motion is not None:
            self._tracks.update(distributions)
        cameras = [frozenset([seen.view.camera])] * len(names)
        self._follower.update(
            _seconds(seen.view.header), seen.targets, distributions, cameras, motion
        )
        elapsed = time.monotonic() - start
        return Result(
            seen.view.header,
            seen.targets,
            distributions,
            elapsed,
            [seen.view],
            self._epoch,
            self._detection,
        )

    def _verified(
        self, name: str, seen: Observation, mine: list[int], found: list[PoseDistribution]
    ) -> list[PoseDistribution]:
        """Weigh the modes of one model's targets by renderings, where that is asked for."""
        verification = self.models.verification(name)
        if verification is None:
            return found
        view, estimator = seen.view, self.models.estimator(name)

        def weigh(index: int, distribution: PoseDistribution) -> PoseDistribution:
            box, center = np.array(seen.targets[index].box), seen.centers[index]
            return verification(view.image, view.K, box, distribution, center)

        try:
            return guarded(
                lambda: list(map(weigh, mine, found)), estimator.bundle.name, estimator.device
            )
        except Exception as error:  # what the search found can be used without
            _, text = self._explain(error)
            self._drop(
                Reason.UNVERIFIED,
                f"modes of '{name}' keep the masses of the search, set search.verify: false if "
                f"that repeats: {text}",
                len(found),
            )
            return found

    def _camera_motion(self, seen: Observation, parameters: Parameters) -> np.ndarray | None:
        """Return the camera's pose [4, 4] if the temporal filter can run."""
        if not parameters.temporal.enabled:
            self._tracks.reset()
            return None
        try:
            return self._camera_pose("", seen.view.header, parameters)
        except BadInputError as error:
            self._drop(Reason.UNFILTERED, str(error))
            return None

    # ---- several cameras ---------------------------------------------------------------------

    def _fuse(self, seen: Sequence[Observation], parameters: Parameters) -> Result:
        start = time.monotonic()
        newest = max((o.view.header for o in seen), key=lambda header: nanoseconds(header.stamp))
        header = Header(stamp=newest.stamp, frame_id=parameters.fixed_frame)
        cameras = [CameraTargets(o.targets, o.view.K, o.view.frame_from_camera) for o in seen]
        groups = associate(cameras, self.models.objects)
        limit = parameters.detections.max_count
        for group in groups[limit:]:
            text = f"more than detections.max_count = {limit} objects in one frame set: raise it"
            self._drop(Reason.TOO_MANY, text, len(group.members))
        groups = groups[:limit]
        names = [group.object_name for group in groups]
        priors: Sequence[PosePrior | None] = [None] * len(groups)
        if parameters.temporal.enabled:
            centers = np.array([group.center for group in groups]).reshape(-1, 3)
            priors = self._priors(names, centers, header, None, parameters)
        distributions = [
            estimate_views(
                self.models.estimator(group.object_name),
                [seen[index].view for index in group.members],
                group.center,
                parameters.views.fusion,
                prior,
            )
            for group, prior in zip(groups, priors, strict=True)
        ]
        if parameters.temporal.enabled:
            self._tracks.update(distributions)
        else:
            self._tracks.reset()
        targets = [_best_target(group, seen) for group in groups]
        rest = np.eye(4) if parameters.temporal.enabled else None
        seeing = [frozenset(seen[index].view.camera for index in g.members) for g in groups]
        self._follower.update(_seconds(header), targets, distributions, seeing, rest)
        elapsed = time.monotonic() - start
        views = [o.view for o in seen]
        return Result(header, targets, distributions, elapsed, views, self._epoch, self._detection)

    def _priors(
        self,
        names: Sequence[str],
        centers: np.ndarray,
        header: Header,
        fixed_from_frame: np.ndarray | None,
        parameters: Parameters,
    ) -> Sequence[PosePrior | None]:
        temporal = parameters.temporal
        self._tracks.settings = TemporalSettings(
            math.radians(temporal.rotation_noise),
            temporal.translation_noise,
            temporal.outlier,
            temporal.max_gap,
        )
        return self._tracks.priors(names, centers, _seconds(header), fixed_from_frame)


def _seconds(header: Header) -> float:
    return nanoseconds(header.stamp) * 1e-9


def _best_target(group: Group, seen: Sequence[Observation]) -> Target:
    """Return the detection of a group with the best score."""
    members = [seen[view].targets[target] for view, target in group.members.items()]
    return max(members, key=lambda target: np.nan_to_num(target.score))
