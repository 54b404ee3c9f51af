"""The estimators of the configured objects: found, loaded and warmed up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from spyropose_ros.core.bundle_files import ObjectInfo, read_object
from spyropose_ros.core.errors import BundleError
from spyropose_ros.core.estimator import Estimator, SearchSettings, resolve_device
from spyropose_ros.ros.pipeline.appearance import Appearance, appearance_of
from spyropose_ros.ros.pipeline.parameters import ParameterError, Parameters

DEMO_MODEL = "models/demo_mug"


def locate(bundle: str) -> str:
    """Find the folder of a bundle.

    Args:
        bundle: folder, also with ~ or package://name/..., or a hub id, which is returned as it is.

    Returns:
        Path of the folder, or the hub id.

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
    """Find the shipped demo model in the package's share folder, else in the source tree."""
    try:
        installed = Path(get_package_share_directory("spyropose_ros"), DEMO_MODEL)
        if installed.is_dir():
            return str(installed)
    except PackageNotFoundError:
        pass
    return str(Path(__file__).parents[3] / DEMO_MODEL)


class Models:
    """The estimators of all configured objects, by object name.

    Args:
        parameters: which bundles, where to run, how to search.
        inform: logs progress.

    Raises:
        ParameterError: if a bundle is missing or damaged, two are of the same object, or a class
            maps to no object.
        ValueError: if the device does not exist or a model has fewer levels.
    """

    def __init__(self, parameters: Parameters, inform: Callable[[str], object]) -> None:
        if parameters.threads:
            torch.set_num_threads(parameters.threads)
        self._inform = inform
        self._device = resolve_device(parameters.device)
        self._settings = SearchSettings(
            beam=parameters.search.beam,
            mass_tolerance=parameters.search.mass_tolerance,
            depth=parameters.search.depth or None,
            crops=parameters.search.crops,
        )
        self._bundles: dict[str, str] = {}
        self.objects: dict[str, ObjectInfo] = {}
        self.estimators: dict[str, Estimator] = {}  # those that are loaded
        self._appearances: dict[str, Appearance] = {}
        bundles = [locate(bundle) for bundle in parameters.objects]
        if not bundles:
            bundles = [demo_bundle()]
            inform(f"no objects given: using the demo model {bundles[0]}")
        for bundle in bundles:
            self._add(bundle)
        self.classes = {name: name for name in self.objects} | parameters.classes
        for class_id, name in parameters.classes.items():
            if name not in self.objects:
                raise ParameterError(
                    f"parameter 'class_map' maps {class_id!r} to {name!r}, which has no model: "
                    f"write one of {', '.join(self.objects)}"
                )
        if not parameters.lazy_loading:
            for name in self.objects:
                self.estimator(name)

    def __str__(self) -> str:
        return ", ".join(
            f"{name} ({self.estimators[name].depth} levels, on {self._device})"
            if name in self.estimators
            else f"{name} (loaded when first detected)"
            for name in self.objects
        )

    def estimator(self, object_name: str) -> Estimator:
        """Load the estimator of an object and warm it up, on first use.

        Args:
            object_name: one of `objects`.

        Returns:
            The estimator, the same every time.

        Raises:
            ParameterError: if the bundle is damaged.
        """
        if object_name not in self.estimators:
            bundle = self._bundles[object_name]
            self._inform(f"loading {bundle}")
            with _named("objects"):
                estimator = Estimator.from_pretrained(bundle, self._device, self._settings)
                appearance = appearance_of(estimator.bundle.object, estimator.bundle.mesh_path)
            estimator.warm_up(1)
            self.estimators[object_name] = estimator
            self._appearances[object_name] = appearance
        return self.estimators[object_name]

    def model_id(self, object_name: str) -> str:
        """Return the name of an object's bundle."""
        return Path(self._bundles[object_name]).name

    def appearance(self, object_name: str) -> Appearance:
        """Return size and mesh of an object."""
        self.estimator(object_name)
        return self._appearances[object_name]

    def _add(self, bundle: str) -> None:
        with _named("objects"):
            info = read_object(bundle)
        if info.name in self.objects:
            raise ParameterError(f"parameter 'objects' has two models of {info.name!r}: keep one")
        self.objects[info.name] = info
        self._bundles[info.name] = bundle


@contextmanager
def _named(parameter: str) -> Iterator[None]:
    """Name the parameter that a bundle comes from in its errors."""
    try:
        yield
    except BundleError as error:
        raise ParameterError(f"parameter '{parameter}': {error}") from error
