"""The parameters of the detector node; those of the estimator are in parameters.py."""

from __future__ import annotations

from dataclasses import dataclass

from spyropose_ros.ros.pipeline.parameter_fields import parameter
from spyropose_ros.ros.pipeline.parameter_groups import AgeParameters, DetectionSettings
from spyropose_ros.ros.pipeline.parameters import NetworkParameters


@dataclass(frozen=True)
class BundleParameters(DetectionSettings):
    """Which detector runs; by ``bundle``, ``detector`` itself."""

    bundle: str = parameter(
        "",
        "Detector: folder (absolute, ~/... or package://name/...) or hub id of a bundle; empty "
        "uses the one of the demo model",
        of_group=True,
    )
    max_count: int = parameter(
        100,
        "Largest number of boxes per image, the best scores first",
        low=1,
        high=1000,
        dynamic=True,
    )


@dataclass(frozen=True)
class DetectorNodeParameters(NetworkParameters):
    """All parameters of the detector node."""

    file = "config/detector.yaml"

    detector: BundleParameters = BundleParameters()
    sync: AgeParameters = AgeParameters()
