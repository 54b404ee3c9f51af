"""What ~/model_info says: models, device and search settings."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ament_index_python.packages import get_package_share_path

from spyropose_ros.core.bundle_files import bundle_name
from spyropose_ros.ros.interfaces import String
from spyropose_ros.ros.pipeline.parameters import Parameters

if TYPE_CHECKING:
    from spyropose_ros.ros.pipeline.finder import Finder
    from spyropose_ros.ros.pipeline.models import Models


def model_info(models: Models, parameters: Parameters, finder: Finder | None = None) -> String:
    """Describe the models as JSON.

    Args:
        models: of the configured objects.
        parameters: they were loaded with.
        finder: finds the boxes in this process, if they do not come from a topic.

    Returns:
        The package's version, the search settings, per detector in this process, if there are any,
        its bundle and the classes that it finds, and per object: its name, the class ids that
        stand for it, its bundle (model_id of the distributions), diameter and centre of its
        bounding sphere in metres, and once the model is loaded its mesh (package://... or
        file://..., null without one), the points of its named features, the levels of its search
        and its device; null before.
    """
    objects = []
    for name, info in models.objects.items():
        estimator = models.estimators.get(name)
        objects.append(
            {
                "name": name,
                "class_ids": [c for c, used in models.classes.items() if used == name],
                "model_id": models.model_id(name),
                "diameter": info.diameter,
                "center": list(info.center),
                "mesh": estimator and models.appearance(name).mesh,
                "features": _points(models, name) if estimator else {},
                "depth": estimator and estimator.depth,
                "device": estimator and str(estimator.device),
            }
        )
    content = {
        "version": _version(),
        "search": dataclasses.asdict(parameters.search),
        "objects": objects,
    }
    if finder is not None:
        content["detectors"] = [
            {"model_id": bundle_name(bundle), "class_ids": list(classes)}
            for bundle, classes in finder.classes.items()
        ]
    return String(data=json.dumps(content, allow_nan=False))


def _points(models: Models, name: str) -> dict[str, list[float]]:
    return {feature: list(each.point) for feature, each in models.features(name).items()}


def _version() -> str:
    manifest = get_package_share_path("spyropose_ros") / "package.xml"
    return ElementTree.parse(manifest).findtext("version", "")
