"""Which detectors find the boxes in this process. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from spyropose_ros.core import bundle_files
from spyropose_ros.core.bundle_files import is_hub_id
from spyropose_ros.core.errors import BundleError
from spyropose_ros.detector.bundle_files import CONFIG, FORMAT, WEIGHTS, DetectorInfo, read_info
from spyropose_ros.ros.pipeline.objects import (
    check_weights,
    demo_bundle,
    locate,
    naming_the_parameter,
    read_objects,
)
from spyropose_ros.ros.pipeline.parameters import ParameterError, Parameters

TOPIC = "topic"
"""Value of the parameter detector for boxes from the topic."""

_MAX_NAMES = 10  # classes of a detector that an error lists


def choose_detectors(
    parameters: Parameters, remapped: Callable[[str], bool] = lambda name: False
) -> tuple[str, ...]:
    """Choose the detectors that run in this process.

    Args:
        parameters: name the bundles of objects and detector.
        remapped: tells whether a topic is given another name. Then its boxes are wanted, whatever
            detectors there are.

    Returns:
        Folders or hub ids; none if the boxes come from the topic detections.

    Raises:
        ParameterError: if a bundle is missing, damaged, or a detector of other objects.
    """
    given = parameters.detector.bundle
    if given == TOPIC or any(map(remapped, detection_topics(parameters))):
        return ()
    if not given:
        return _own_detectors(parameters)
    detector = locate(given, "detector")
    info = check_detector(detector)
    if info is not None and not any(is_hub_id(locate(bundle)) for bundle in parameters.objects):
        require_objects(detector, info.classes, read_objects(parameters).classes)
    return (detector,)


def check_detector(detector: str) -> DetectorInfo | None:
    """Check what can be known of a detector before PyTorch is loaded.

    Args:
        detector: folder or hub id.

    Returns:
        What it finds; None for one on the hub, which is not looked at.

    Raises:
        ParameterError: if it is missing or damaged.
    """
    if is_hub_id(detector):
        return None
    with naming_the_parameter("detector"):
        info = read_info(bundle_files.locate(detector, (CONFIG, WEIGHTS)))
        _require_weights(detector)
    return info


def detection_topics(parameters: Parameters) -> list[str]:
    """Return the relative names of the topics that detections come on, if they do."""
    return [f"{camera}/detections" for camera in parameters.cameras] or ["detections"]


def unused(topic: str) -> str:
    """Say that detections on a topic are not used, and how they are."""
    return (
        f"detections on {topic} are not used, since a detector in this process finds the boxes: "
        "set detector: topic to use them"
    )


def _own_detectors(parameters: Parameters) -> tuple[str, ...]:
    """Return the bundles of objects whose detectors find all objects; none if they do not."""
    bundles = [locate(bundle) for bundle in parameters.objects] or [demo_bundle()]
    if not any((Path(bundle) / CONFIG).is_file() for bundle in bundles) or any(
        is_hub_id(bundle) for bundle in bundles
    ):
        return ()
    own = [bundle for bundle in bundles if (Path(bundle) / CONFIG).is_file()]
    objects = read_objects(parameters)
    with naming_the_parameter():
        known = {bundle: read_info(Path(bundle)).classes for bundle in own}
    shares = share_classes(known, objects.classes)
    if {name for share in shares.values() for name in share.values()} < objects.infos.keys():
        return ()
    used = tuple(bundle for bundle, share in shares.items() if share)
    with naming_the_parameter():
        for bundle in used:
            _require_weights(bundle)
    return used


def share_classes(
    known: Mapping[str, Sequence[str]], classes: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Let the first detector that knows a class find it.

    Args:
        known: classes by detector.
        classes: names of objects by the classes that stand for them.

    Returns:
        By detector: names of objects by the classes that it finds.
    """
    free = dict(classes)
    return {
        detector: {name: free.pop(name) for name in names if name in free}
        for detector, names in known.items()
    }


def require_objects(detector: str, names: Sequence[str], classes: Mapping[str, str]) -> None:
    """Check that a detector finds at least one of the objects.

    Args:
        detector: its bundle.
        names: of its classes.
        classes: names of objects by the classes that stand for them.

    Raises:
        ParameterError: if it does not.
    """
    if classes.keys().isdisjoint(names):
        listed = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
        objects = sorted(set(classes.values()))
        raise ParameterError(
            f"parameter 'detector': {detector} knows {listed} but none of the objects "
            f"{', '.join(objects)}: map one of its classes, such as class_map: "
            f"['{names[0]}={objects[0]}'], or give another detector"
        )


def _require_weights(detector: str) -> None:
    if not (Path(detector) / WEIGHTS).is_file():
        raise BundleError(f"{detector} is incomplete: {WEIGHTS} is missing")
    check_weights(Path(detector), CONFIG, FORMAT, WEIGHTS)
