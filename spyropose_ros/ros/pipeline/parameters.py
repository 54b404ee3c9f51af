"""The node's parameters: one frozen snapshot with types and ranges. Independent of ROS.

``parameter_server.py`` declares them on a node; ``config/estimator.yaml`` lists them for users.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from spyropose_ros.ros.pipeline.parameter_fields import Description, ParameterError, parameter
from spyropose_ros.ros.pipeline.parameter_groups import (
    DetectionParameters,
    DetectorParameters,
    OutputParameters,
    QosParameters,
    SearchParameters,
    SyncParameters,
    TemporalParameters,
    ViewParameters,
)


@dataclass(frozen=True)
class NodeParameters:
    """What all life-cycle nodes have."""

    file: ClassVar[str]
    """That explains all parameters."""

    autostart: bool = parameter(
        True, "Whether the node configures and activates itself; false leaves it to a manager"
    )
    image_transport: str = parameter(
        "raw",
        "raw subscribes to sensor_msgs/Image; compressed to sensor_msgs/CompressedImage on the "
        "image topic with /compressed appended",
        choices=("raw", "compressed"),
    )
    qos: QosParameters = QosParameters()

    def check(self) -> None:
        """Check what depends on more than one value.

        Raises:
            ParameterError: if a list is malformed or parameters do not match.
        """


@dataclass(frozen=True)
class NetworkParameters(NodeParameters):
    """What all nodes with a network have."""

    device: str = parameter("auto", "Where the model runs: 'auto', 'cpu', 'cuda' or 'cuda:N'")
    threads: int = parameter(
        0,
        "CPU threads of the models; 0 uses PyTorch's default, all cores. Fewer leave cores to "
        "other processes",
        low=0,
        high=256,
    )


@dataclass(frozen=True)
class Parameters(NetworkParameters):
    """All parameters of the estimator node."""

    file = "config/estimator.yaml"

    objects: tuple[str, ...] = parameter(
        (),
        "Model bundles: folders (absolute, ~/... or package://name/...) or hub ids; "
        "empty uses the demo model",
    )
    class_map: tuple[str, ...] = parameter(
        (),
        "Detector classes named differently from the model's object: 'class_id=object_name' each",
    )
    lazy_loading: bool = parameter(
        False, "Whether a model is loaded only when its class is first detected"
    )
    cameras: tuple[str, ...] = parameter(
        (),
        "Names of several cameras that see the objects together; each name is prepended to the "
        "input topics. Empty: one camera without a name",
    )
    camera_poses: tuple[str, ...] = parameter(
        (),
        "Fixed poses of the cameras' optical frames in fixed_frame, "
        "'camera=x y z qx qy qz qw' each (metres); a camera without one is looked up in TF",
    )
    fixed_frame: str = parameter(
        "",
        "TF frame in which the objects are at rest, such as map or base_link: results of several "
        "cameras are in it, and the temporal filter takes camera motion from it. Empty: one camera "
        "at rest",
    )
    rectified: bool = parameter(
        True,
        "Whether images and detections are rectified; with false they are raw and rectified by "
        "camera_info",
    )
    depth_image: bool = parameter(
        False,
        "Whether the distance is taken from the topic depth, registered to the image, instead of "
        "the size of the box",
    )
    publish_tf: bool = parameter(
        False,
        "Whether the leading mode is published as a TF frame named after the object",
        dynamic=True,
    )
    tf_hysteresis: float = parameter(
        0.2,
        "Mass by which another mode must exceed the current one before the TF frame jumps to it",
        low=0.0,
        high=1.0,
        dynamic=True,
    )
    history: int = parameter(
        10,
        "Newest results that the services can be asked about; each object of each takes about 5 MB",
        low=1,
        high=1000,
    )
    detector: DetectorParameters = DetectorParameters()
    search: SearchParameters = SearchParameters()
    detections: DetectionParameters = DetectionParameters()
    sync: SyncParameters = SyncParameters()
    views: ViewParameters = ViewParameters()
    temporal: TemporalParameters = TemporalParameters()
    output: OutputParameters = OutputParameters()

    @property
    def classes(self) -> dict[str, str]:
        """``class_map`` as a dictionary from class id to object name.

        Raises:
            ParameterError: if an entry is not of the form class_id=object_name.
        """
        return _pairs("class_map", self.class_map, "class_id=object_name")

    @property
    def fixed_cameras(self) -> dict[str, tuple[float, ...]]:
        """``camera_poses`` as a dictionary from camera to x, y, z, qx, qy, qz, qw.

        Raises:
            ParameterError: if an entry is malformed or names no camera.
        """
        return fixed_cameras(self.cameras, self.camera_poses)

    def check(self) -> None:
        """See NodeParameters."""
        self.classes, self.fixed_cameras  # noqa: B018 - malformed entries raise
        check_names(self.cameras)
        if self.cameras and not self.fixed_frame:
            raise ParameterError(
                "parameter 'cameras' needs 'fixed_frame': name the frame in which the poses of "
                "the cameras are known, such as base_link"
            )
        if self.cameras and self.search.verify:
            raise ParameterError(
                "parameter 'search.verify' is for one camera: set it to false, or leave 'cameras' "
                "empty"
            )


def check_names(cameras: Sequence[str]) -> None:
    """Check the names of several cameras.

    Args:
        cameras: their names.

    Raises:
        ParameterError: if one cannot be part of a topic, or is there twice.
    """
    for camera in cameras:
        if not re.fullmatch(r"[A-Za-z]\w*(/[A-Za-z]\w*)*", camera, re.ASCII):
            raise ParameterError(
                f"parameter 'cameras' has {camera!r}, which cannot be part of a topic: "
                "begin with a letter and use letters, digits, _ and /"
            )
    if len(set(cameras)) < len(cameras):
        raise ParameterError("parameter 'cameras' names a camera twice")


def fixed_cameras(cameras: Sequence[str], entries: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Read ``camera_poses`` as a dictionary from camera to x, y, z, qx, qy, qz, qw.

    Args:
        cameras: names of all cameras.
        entries: 'camera=x y z qx qy qz qw' each.

    Returns:
        The poses, metres.

    Raises:
        ParameterError: if an entry is malformed or names no camera.
    """
    form = "camera=x y z qx qy qz qw"
    poses = {}
    for camera, text in _pairs("camera_poses", entries, form).items():
        if camera not in cameras:
            raise ParameterError(
                f"parameter 'camera_poses' has the camera '{camera}', which is not in "
                f"'cameras': write one of {', '.join(cameras) or 'none'}"
            )
        try:
            pose = tuple(float(value) for value in text.split())
        except ValueError:
            pose = ()
        usable = len(pose) == 7 and all(map(math.isfinite, pose)) and math.hypot(*pose[3:]) > 0
        if not usable:
            raise ParameterError(
                f"parameter 'camera_poses' has '{text}' for camera '{camera}': write '{form}'"
            )
        poses[camera] = pose
    return poses


def _pairs(name: str, entries: Iterable[str], form: str) -> dict[str, str]:
    """Split the entries of a list at their first =."""
    pairs = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not (key and value):
            raise ParameterError(
                f"parameter '{name}' has the entry '{key}{equals}{value}': write '{form}'"
            )
        pairs[key] = value
    return pairs


def descriptions(group: Any = Parameters, prefix: str = "") -> Iterator[tuple[str, Description]]:
    """Yield the full name and the description of every parameter."""
    for item in dataclasses.fields(group):
        if "description" in item.metadata:
            yield _full_name(prefix, item), item.metadata["description"]
        else:
            yield from descriptions(item.default, f"{prefix}{item.name}.")


def _full_name(prefix: str, item: dataclasses.Field) -> str:
    """Return the full name of a parameter in a group."""
    if item.metadata["description"].of_group:
        return prefix.removesuffix(".")
    return prefix + item.name


def flatten(group: Any, prefix: str = "") -> dict[str, Any]:
    """Return the parameters as a dictionary from full names to values."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(group):
        value = getattr(group, item.name)
        if dataclasses.is_dataclass(value):
            values |= flatten(value, f"{prefix}{item.name}.")
        else:
            values[_full_name(prefix, item)] = value
    return values


def build(values: Mapping[str, Any], default: Any = None, prefix: str = "") -> Any:
    """Make ``Parameters`` from full names and values; inverse of ``flatten``.

    Args:
        values: of all parameters, by full name.
        default: part of the parameters to make; all of them by default.
        prefix: of the full names of that part.

    Returns:
        A copy of the default with the values.

    Raises:
        ParameterError: if a text is not one of its choices, or ``class_map`` is malformed.
    """
    default = default or Parameters()
    fields = {}
    for item in dataclasses.fields(default):
        if "description" not in item.metadata:
            group = getattr(default, item.name)
            fields[item.name] = build(values, group, f"{prefix}{item.name}.")
            continue
        name = _full_name(prefix, item)
        choices = item.metadata["description"].choices
        if choices and values[name] not in choices:
            raise ParameterError(
                f"parameter '{name}' is '{values[name]}': write one of {', '.join(choices)}"
            )
        fields[item.name] = values[name]
    return dataclasses.replace(default, **fields)


def unknown_names(given: Iterable[str], group: type[NodeParameters] = Parameters) -> list[str]:
    """Return a warning for each name that is not a parameter, with the closest known name."""
    known = [name for name, _ in descriptions(group)]
    texts = []
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{close[0]}'?" if close else f"see {group.file}"
            texts.append(f"unknown parameter '{name}' is ignored: {hint}")
    return texts
