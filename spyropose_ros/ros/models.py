"""The estimators of the configured objects: found, loaded, warmed up, and called together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from spyropose_ros.core.bundle import BundleError
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.ros.detections import Target
from spyropose_ros.ros.markers import Appearance
from spyropose_ros.ros.parameters import ParameterError, Parameters

DEMO_MODEL = "models/demo_mug"


def locate(bundle: str) -> str:
    """Finds the folder of a bundle.

    Args:
        bundle: folder, also with ~ or package://name/..., or a hub id, which is left as it is.

    Raises:
        ParameterError: if the package does not exist.
    """
    if not bundle.startswith("package://"):
        return str(Path(bundle).expanduser())
    package, _, path = bundle.removeprefix("package://").partition("/")
    try:
        return str(Path(get_package_share_directory(package), path))
    except PackageNotFoundError:
        raise ParameterError(
            f"parameter 'objects' has {bundle!r} but there is no package {package!r}: "
            "source the workspace that has it"
        ) from None


def demo_bundle() -> str:
    """Finds the shipped demo model: in the package's share folder, else in the source tree."""
    try:
        installed = Path(get_package_share_directory("spyropose_ros"), DEMO_MODEL)
        if installed.is_dir():
            return str(installed)
    except PackageNotFoundError:
        pass
    return str(Path(__file__).parents[2] / DEMO_MODEL)


class Models:
    """All loaded estimators by object name.

    Args:
        parameters: which bundles, where to run, how to search.
        inform: logs progress.

    Raises:
        ParameterError: if a bundle is missing or damaged, two are of the same object, or a class
            maps to no object.
        ValueError: if the device does not exist or a model has not as many levels.
    """

    def __init__(self, parameters: Parameters, inform: Callable[[str], object]) -> None:
        if parameters.threads:
            torch.set_num_threads(parameters.threads)
        bundles = [locate(bundle) for bundle in parameters.objects]
        if not bundles:
            bundles = [demo_bundle()]
            inform(f"no objects given: the demo model {bundles[0]} is used")
        settings = SearchSettings(
            beam=parameters.search.beam,
            mass_tolerance=parameters.search.mass_tolerance,
            depth=parameters.search.depth or None,
            crops=parameters.search.crops,
        )
        self.estimators: dict[str, Estimator] = {}
        for bundle in bundles:
            inform(f"loading {bundle}")
            try:
                estimator = Estimator.from_pretrained(bundle, parameters.device, settings)
            except BundleError as error:
                raise ParameterError(f"parameter 'objects': {error}") from error
            name = estimator.bundle.object.name
            if name in self.estimators:
                raise ParameterError(f"parameter 'objects' has two models of {name!r}: keep one")
            self.estimators[name] = estimator
        self.classes = {name: name for name in self.estimators} | parameters.classes
        for class_id, name in parameters.classes.items():
            if name not in self.estimators:
                raise ParameterError(
                    f"parameter 'class_map' maps {class_id!r} to {name!r}, which is not loaded: "
                    f"write one of {', '.join(self.estimators)}"
                )

    def __str__(self) -> str:
        return ", ".join(
            f"{name} ({estimator.depth} levels, on {estimator.device})"
            for name, estimator in self.estimators.items()
        )

    def model_id(self, object_name: str) -> str:
        """Name of the bundle that an object's distributions come from."""
        return Path(self.estimators[object_name].bundle.name).name

    def appearance(self, object_name: str) -> Appearance:
        """How RViz shows an object."""
        bundle = self.estimators[object_name].bundle
        mesh = None if bundle.mesh_path is None else bundle.mesh_path.absolute().as_uri()
        return Appearance(bundle.object.diameter, mesh)

    def warm_up(self) -> None:
        """Makes the first real frame as fast as the others."""
        for estimator in self.estimators.values():
            estimator.warm_up(1)

    def estimate(
        self, image: np.ndarray, K: np.ndarray, targets: Sequence[Target]
    ) -> list[PoseDistribution]:
        """Estimates all targets of one frame, in one batched pass per model.

        Args:
            image: RGB uint8 [H, W, 3].
            K: intrinsics [3, 3].
            targets: what to estimate.

        Returns:
            One distribution per target, in their order, on the CPU.
        """
        results: list[PoseDistribution | None] = [None] * len(targets)
        for name, estimator in self.estimators.items():
            mine = [index for index, target in enumerate(targets) if target.object_name == name]
            if mine:
                boxes = np.array([targets[index].box for index in mine])
                for index, result in zip(mine, estimator.estimate(image, K, boxes), strict=True):
                    results[index] = result.to("cpu")
        return results
