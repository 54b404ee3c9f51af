"""The estimators of the configured objects: loaded and warmed up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch

from spyropose_ros.core.bundle_files import bundle_name
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.estimator import Estimator, SearchSettings, resolve_device
from spyropose_ros.ros.pipeline.appearance import Appearance, appearance_of
from spyropose_ros.ros.pipeline.objects import demo_bundle, naming_the_parameter, read_objects
from spyropose_ros.ros.pipeline.parameters import Parameters

if TYPE_CHECKING:
    from spyropose_ros.core.bundle_files import Feature
    from spyropose_ros.scenes.portrait import Portrait
    from spyropose_ros.scenes.verification import Verification


class Models:
    """The estimators of all configured objects, by object name.

    Args:
        parameters: which bundles, where to run, how to search.
        inform: logs progress.

    Attributes:
        device: where they run.

    Raises:
        ParameterError: if a bundle is missing or damaged, two are of the same object, or a class
            maps to no object.
        ValueError: if the device does not exist or a model has fewer levels.
    """

    device: torch.device

    def __init__(self, parameters: Parameters, inform: Callable[[str], object]) -> None:
        if parameters.threads:
            torch.set_num_threads(parameters.threads)
        self._inform = inform
        self.device = resolve_device(parameters.device)
        self._settings = SearchSettings(
            beam=parameters.search.beam,
            mass_tolerance=parameters.search.mass_tolerance,
            depth=parameters.search.depth or None,
            crops=parameters.search.crops,
        )
        if not parameters.objects:
            inform(f"no objects given: using the demo model {demo_bundle()}")
        found = read_objects(parameters)
        self.objects, self._bundles, self.classes = found.infos, found.bundles, found.classes
        self.estimators: dict[str, Estimator] = {}  # those that are loaded
        self._appearances: dict[str, Appearance] = {}
        self._portraits: dict[str, Portrait] = {}
        self._verify = parameters.search.verify
        self._verifications: dict[str, Verification] = {}
        if not parameters.lazy_loading:
            for name in self.objects:
                self.estimator(name)

    def __str__(self) -> str:
        return ", ".join(
            f"{name} ({self.estimators[name].depth} levels, on {self.device})"
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
            ParameterError: if the bundle is damaged, or `search.verify` is set and its modes
                cannot be verified.
        """
        if object_name not in self.estimators:
            bundle = self._bundles[object_name]
            self._inform(f"loading {bundle}")
            with naming_the_parameter():
                estimator = Estimator.from_pretrained(bundle, self.device, self._settings)
                appearance = appearance_of(estimator.bundle.object, estimator.bundle.mesh_path)
            if self._verify:
                self._verifications[object_name] = _verification(estimator)
            estimator.warm_up(1)
            self.estimators[object_name] = estimator
            self._appearances[object_name] = appearance
        return self.estimators[object_name]

    def model_id(self, object_name: str) -> str:
        """Return the name of an object's bundle."""
        return bundle_name(self._bundles[object_name])

    def appearance(self, object_name: str) -> Appearance:
        """Return size and mesh of an object."""
        self.estimator(object_name)
        return self._appearances[object_name]

    def features(self, object_name: str) -> dict[str, Feature]:
        """Return the named features of an object."""
        return self.estimator(object_name).bundle.features

    def verification(self, object_name: str) -> Verification | None:
        """Return what weighs the modes of an object by renderings; None without search.verify."""
        self.estimator(object_name)
        return self._verifications.get(object_name)

    def portrait(self, object_name: str) -> Portrait:
        """Make what draws an object, at its first use.

        Args:
            object_name: one of `objects`.

        Returns:
            The same every time.

        Raises:
            InputError: if its bundle has no mesh.
        """
        if object_name not in self._portraits:
            mesh = self.estimator(object_name).bundle.mesh_path
            if mesh is None:
                raise InputError(
                    f"the model of '{object_name}' has no mesh to draw it with: copy it, in "
                    f"metres, to {self._bundles[object_name]}/mesh.ply"
                )
            import trimesh  # half a second that only this needs

            from spyropose_ros.scenes.portrait import Portrait

            loaded = cast(trimesh.Trimesh, trimesh.load(mesh, force="mesh"))
            self._portraits[object_name] = Portrait(loaded)
        return self._portraits[object_name]


def _verification(estimator: Estimator) -> Verification:
    from spyropose_ros.scenes.verification import Verification  # imports trimesh, see `portrait`

    with naming_the_parameter("search.verify"):
        return Verification.of_bundle(estimator)
