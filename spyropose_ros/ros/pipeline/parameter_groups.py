"""The groups of the nodes' parameters: defaults, texts and ranges. Independent of ROS."""

from __future__ import annotations

from dataclasses import dataclass

from spyropose_ros.ros.pipeline.parameter_fields import parameter


@dataclass(frozen=True)
class SearchParameters:
    """How thoroughly the pose space is searched."""

    depth: int = parameter(
        0, "Levels of the coarse-to-fine search; 0 uses all levels of the model", low=0, high=9
    )
    beam: int = parameter(
        512, "Largest number of grid cells refined per level and object", low=8, high=65536
    )
    mass_tolerance: float = parameter(
        0.05,
        "Total probability mass that may stay at coarse levels; 0.0 always refines a full beam",
        low=0.0,
        high=0.5,
    )
    crops: int = parameter(
        1,
        "Crops of each detection whose scores are averaged; time grows in proportion, results get "
        "steadier",
        low=1,
        high=5,
    )
    verify: bool = parameter(
        False,
        "Whether modes are weighed by renderings of the object at them, which needs bundles with a "
        "mesh that has colours",
    )


@dataclass(frozen=True)
class DetectionSettings:
    """When and what a detector detects."""

    rate: float = parameter(
        0.0,
        "Highest rate of detection in Hz; 0.0 detects in every frame. In between, the estimator "
        "follows objects with temporal.enabled; other frames are dropped",
        low=0.0,
        high=1000.0,
        dynamic=True,
    )
    min_score: float = parameter(
        0.5,
        "Boxes that the detector scores lower are no objects; its scores are probabilities",
        low=0.0,
        high=1.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class DetectorParameters(DetectionSettings):
    """Which detector finds the boxes in this process; by ``bundle``, ``detector`` itself."""

    bundle: str = parameter(
        "",
        "Detector that finds the boxes in this process: folder or hub id of a bundle. Empty uses "
        "the detector in the bundles of objects if they have one that knows all of them; 'topic' "
        "always takes the boxes from the topic detections, as a remapping of that topic does",
        of_group=True,
    )


@dataclass(frozen=True)
class DetectionParameters:
    """Which detections are used."""

    min_score: float = parameter(
        0.0, "Detections with a lower score are ignored", low=0.0, high=1.0, dynamic=True
    )
    max_count: int = parameter(
        16,
        "Largest number of objects estimated per image, those with the best scores",
        low=1,
        high=256,
        dynamic=True,
    )


@dataclass(frozen=True)
class AgeParameters:
    """When a frame is too old."""

    max_age: float = parameter(
        1.0,
        "Frames older than this many seconds when their processing would start are dropped; 0.0 "
        "drops none",
        low=0.0,
        high=60.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class SyncParameters(AgeParameters):
    """How detections are matched with images, and when a frame is too old."""

    slop: float = parameter(
        0.01,
        "Largest difference in seconds between the stamps of detections and image if no stamp is "
        "equal",
        low=0.0,
        high=1.0,
        dynamic=True,
    )
    buffer_size: int = parameter(
        20, "Images kept for late detections: camera rate x detector latency", low=1, high=1000
    )


@dataclass(frozen=True)
class ViewParameters:
    """Several cameras: which frames are estimated together, and how their scores are combined."""

    slop: float = parameter(
        0.02,
        "Largest difference in seconds between the stamps of images that are estimated together",
        low=0.0,
        high=1.0,
    )
    wait: float = parameter(
        0.1,
        "Longest wait in seconds for the other cameras after the first frame; a camera that was "
        "missing last time and silent for a second is not waited for",
        low=0.0,
        high=10.0,
    )
    fusion: str = parameter(
        "sum",
        "sum treats the views as independent; root (sum over the root of their number) and mean "
        "are more cautious where they share errors",
        choices=("sum", "root", "mean"),
        dynamic=True,
    )


@dataclass(frozen=True)
class TemporalParameters:
    """The last distribution, propagated by a motion model, as the prior of the next search."""

    enabled: bool = parameter(
        False, "Whether earlier frames sharpen the present estimate", dynamic=True
    )
    rotation_noise: float = parameter(
        10.0,
        "Expected rotation of an object between frames, degrees per square root of a second",
        low=0.0,
        high=180.0,
        dynamic=True,
    )
    translation_noise: float = parameter(
        0.01,
        "Expected translation of an object between frames, metres per square root of a second",
        low=0.0,
        high=10.0,
        dynamic=True,
    )
    outlier: float = parameter(
        0.2,
        "Share of the certainty that is given up within a second, so that a wrong mode does not "
        "persist",
        low=0.001,
        high=1.0,
        dynamic=True,
    )
    max_gap: float = parameter(
        2.0,
        "Objects unseen for more than this many seconds are forgotten",
        low=0.0,
        high=3600.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class QosParameters:
    """Quality of service of the image and camera_info subscriptions."""

    reliability: str = parameter(
        "reliable",
        "reliable loses no image where the publisher offers it, and takes less where not; "
        "best_effort loses most raw images above about 0.5 MB",
        choices=("reliable", "best_effort"),
    )
    depth: int = parameter(
        5,
        "Messages that the middleware queues per topic. They are taken immediately, so a longer "
        "queue does not mean older frames",
        low=1,
        high=100,
    )


@dataclass(frozen=True)
class OutputParameters:
    """What is published."""

    max_poses: int = parameter(
        256,
        "Largest number of poses per object in ~/distributions, and poses drawn per object in "
        "~/poses",
        low=1,
        high=4096,
        dynamic=True,
    )
    max_modes: int = parameter(
        5,
        "Largest number of modes per object in detections_3d, those with the most mass",
        low=1,
        high=8,
        dynamic=True,
    )
    min_mass: float = parameter(
        0.5,
        "Smallest probability of the leading mode for which ~/pose is published",
        low=0.0,
        high=1.0,
        dynamic=True,
    )
    mesh: bool = parameter(
        True, "Whether ~/markers shows the model's mesh in the poses it may have", dynamic=True
    )
