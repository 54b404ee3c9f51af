"""Estimates photographs and videos, and shows the distributions."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable

import numpy as np

from spyropose_ros.core.errors import DataError, SpyroposeError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.plots.pose_cloud import Mesh, PoseCloud
from spyropose_ros.core.presence import with_score
from spyropose_ros.photos.estimate import boxes_of, camera_of, verification_of
from spyropose_ros.photos.estimates import Found, estimate
from spyropose_ros.photos.files import expand, pictures
from spyropose_ros.photos.photograph import photograph
from spyropose_ros.ros.messages.conversions import LOG_VOLUME_RATIO
from spyropose_ros.viewer.moment import Moment, ObjectState, named, small_view
from spyropose_ros.viewer.viewer import Viewer


def show_estimates(args: Namespace, viewer: Viewer, say: Callable[[str], object]) -> None:
    """Estimate images one after the other, and show each.

    Args:
        args: of `./run view BUNDLE IMAGE...`.
        viewer: shows them.
        say: logs a line.

    Raises:
        SpyroposeError: the bundle, the camera or a box is unusable, or no image can be read.
    """
    files, camera = expand(args.images), camera_of(args)
    say(f"open {viewer.url} in a browser; loading {args.model}")
    estimator = Estimator.from_pretrained(args.model, args.device)
    boxes, verification = boxes_of(args, estimator), verification_of(args, estimator)
    path = estimator.bundle.mesh_path
    mesh = None if path is None else Mesh.read(path)
    features = {name: each.point for name, each in estimator.bundle.features.items()}
    count = 0
    for file in files:
        try:
            for picture in pictures(file, args.every):
                photo = photograph(picture, camera)
                start = time.monotonic()
                found = estimate(photo, boxes(photo), estimator, verification)
                seconds = time.monotonic() - start
                names = named([estimator.bundle.object.name] * len(found))
                clouds = (PoseCloud.of(each.distribution, mesh, features) for each in found)
                states = [_state(*each) for each in zip(names, found, clouds, strict=True)]
                view = small_view(photo.image, photo.K, np.eye(4))
                viewer.show(Moment(float(count), states, {"": view}, inference=seconds))
                count += 1
                say(f"{picture.name}: {len(found)} found")
        except SpyroposeError as error:  # the others may be fine
            say(str(error))
    if not count:
        raise DataError("no image could be shown")
    say("all images were shown; step through them, or Ctrl-C to end")


def _state(name: str, found: Found, cloud: PoseCloud) -> ObjectState:
    distribution = found.distribution
    presence = with_score(distribution.presence, found.score or math.nan)
    return ObjectState(name, cloud, distribution.entropy() + LOG_VOLUME_RATIO, presence)
