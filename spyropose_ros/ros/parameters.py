"""The node's parameters: one frozen snapshot with types, ranges and texts. Knows no ROS.

``parameter_server.py`` declares them on a node; ``config/estimator.yaml`` lists them for users.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


class ParameterError(ValueError):
    """A parameter cannot be used; the text names it and the remedy in one line."""


@dataclass(frozen=True)
class Description:
    """What a parameter means and what it may be.

    Args:
        text: meaning and unit.
        low: smallest number, None for other types.
        high: largest number, None for other types.
        choices: the only texts allowed; empty allows all.
        dynamic: whether it may change while the node runs.
    """

    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False


def _parameter(default: Any, text: str, **constraints: Any) -> Any:
    return field(default=default, metadata={"description": Description(text, **constraints)})


@dataclass(frozen=True)
class SearchParameters:
    """How thoroughly the pose space is searched."""

    depth: int = _parameter(
        0, "Levels of the coarse-to-fine search; 0 takes all that the model has", low=0, high=9
    )
    beam: int = _parameter(512, "Most grid cells refined per level and object", low=8, high=65536)
    mass_tolerance: float = _parameter(
        0.01,
        "Probability mass that may stay at coarse levels in all; 0.0 always refines a full beam",
        low=0.0,
        high=0.5,
    )
    crops: int = _parameter(
        1,
        "Crops of each detection whose scores are averaged; more take as many times longer and "
        "are steadier",
        low=1,
        high=5,
    )


@dataclass(frozen=True)
class DetectionParameters:
    """Which detections are used."""

    min_score: float = _parameter(
        0.0, "Detections with a lower score are ignored", low=0.0, high=1.0, dynamic=True
    )
    max_count: int = _parameter(
        16,
        "Most objects estimated per image, those with the best scores",
        low=1,
        high=256,
        dynamic=True,
    )


@dataclass(frozen=True)
class SyncParameters:
    """How detections find their image, and when a pair is too old."""

    slop: float = _parameter(
        0.01,
        "Largest difference in seconds between the stamps of detections and image "
        "where no stamp is equal",
        low=0.0,
        high=1.0,
        dynamic=True,
    )
    buffer_size: int = _parameter(
        20, "Images kept for late detections: camera rate x detector latency", low=1, high=1000
    )
    max_age: float = _parameter(
        1.0,
        "Frames older than this many seconds when work on them would start are dropped; "
        "0.0 drops none",
        low=0.0,
        high=60.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class QosParameters:
    """Quality of service of the image and camera_info subscriptions."""

    reliability: str = _parameter(
        "reliable",
        "reliable loses no image but needs a reliable publisher; best_effort accepts every "
        "publisher and loses most raw images above about 0.5 MB",
        choices=("reliable", "best_effort"),
    )


@dataclass(frozen=True)
class OutputParameters:
    """What is published."""

    max_poses: int = _parameter(
        256,
        "Most poses per object in ~/distributions, and poses drawn per object in ~/poses",
        low=1,
        high=4096,
        dynamic=True,
    )
    mesh: bool = _parameter(
        True, "Whether ~/markers shows the model's mesh at the modes", dynamic=True
    )


@dataclass(frozen=True)
class Parameters:
    """All parameters of the estimator node."""

    objects: tuple[str, ...] = _parameter(
        (),
        "Model bundles: folders (absolute, ~/... or package://name/...) or hub ids; "
        "empty takes the demo model",
    )
    class_map: tuple[str, ...] = _parameter(
        (),
        "Detector classes that are named unlike the model's object: 'class_id=object_name' each",
    )
    device: str = _parameter("auto", "Where the model runs: 'auto', 'cpu', 'cuda' or 'cuda:N'")
    threads: int = _parameter(
        0,
        "CPU threads of the models; 0 takes PyTorch's choice, all cores. On a busy CPU fewer are "
        "several times faster",
        low=0,
        high=256,
    )
    search: SearchParameters = SearchParameters()
    detections: DetectionParameters = DetectionParameters()
    sync: SyncParameters = SyncParameters()
    qos: QosParameters = QosParameters()
    output: OutputParameters = OutputParameters()

    @property
    def classes(self) -> dict[str, str]:
        """``class_map`` as a dictionary from class id to object name.

        Raises:
            ParameterError: if an entry is not of the form class_id=object_name.
        """
        pairs = [entry.partition("=") for entry in self.class_map]
        for class_id, _, object_name in pairs:
            if not (class_id and object_name):
                raise ParameterError(
                    f"parameter 'class_map' has the entry '{class_id}{_}{object_name}': "
                    "write 'class_id=object_name'"
                )
        return {class_id: object_name for class_id, _, object_name in pairs}


def descriptions(group: Any = Parameters, prefix: str = "") -> Iterator[tuple[str, Description]]:
    """Yields the full name and the description of every parameter."""
    for item in dataclasses.fields(group):
        if "description" in item.metadata:
            yield prefix + item.name, item.metadata["description"]
        else:
            yield from descriptions(item.default, f"{prefix}{item.name}.")


def flatten(group: Any, prefix: str = "") -> dict[str, Any]:
    """Turns parameters into a dictionary from full names to values."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(group):
        value = getattr(group, item.name)
        if dataclasses.is_dataclass(value):
            values |= flatten(value, f"{prefix}{item.name}.")
        else:
            values[prefix + item.name] = value
    return values


def build(values: Mapping[str, Any], default: Any = None, prefix: str = "") -> Any:
    """Makes ``Parameters`` from full names and values; inverse of ``flatten``.

    Raises:
        ParameterError: if a text is not one of its choices, or ``class_map`` is malformed.
    """
    default = default or Parameters()
    fields = {}
    for item in dataclasses.fields(default):
        name = prefix + item.name
        if "description" not in item.metadata:
            fields[item.name] = build(values, getattr(default, item.name), name + ".")
            continue
        choices = item.metadata["description"].choices
        if choices and values[name] not in choices:
            raise ParameterError(
                f"parameter '{name}' is '{values[name]}': write one of {', '.join(choices)}"
            )
        fields[item.name] = values[name]
    return dataclasses.replace(default, **fields)


def unknown_names(given: Iterable[str]) -> list[str]:
    """Says which given names are no parameters, one text each, with the closest name there is."""
    known = [name for name, _ in descriptions()]
    texts = []
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{close[0]}'?" if close else "see config/estimator.yaml"
            texts.append(f"unknown parameter '{name}' is ignored: {hint}")
    return texts
