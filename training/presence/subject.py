"""A model and the images that its presence is fitted to or judged on."""

from collections.abc import Iterator
from dataclasses import dataclass

from spyropose_ros.bop import LMO_OBJECTS
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.estimator import Estimator
from training import runs
from training.data.bop import BopSource
from training.data.source import Source
from training.presence.shown import Shown, photographs


@dataclass(frozen=True)
class Subject:
    """A model with its data.

    Attributes:
        estimator: of the model.
        source: of the training.
    """

    estimator: Estimator
    source: Source

    def photographs(self, split: str, seed: int) -> Iterator[Shown]:
        """Show the images of a split with all their annotated objects.

        Args:
            split: of the source.
            seed: of the boxes' noise and of the backgrounds.

        Returns:
            The images.

        Raises:
            InputError: there is no such split, or it has no annotated images.
        """
        if isinstance(self.source, BopSource):
            known = self.source.dataset
            names = {number: known.object_name(number) for number in known.models}
        else:
            names = {number: name for name, number in LMO_OBJECTS.items()}
        return photographs(self.source.frames(split), names, seed)


def open_subject(run_or_bundle: str, device: str | None, data_root: str) -> Subject:
    """Load a model and its data.

    Args:
        run_or_bundle: run id, folder of a bundle, or hub id.
        device: where to run.
        data_root: where data sets lie.

    Returns:
        Both.

    Raises:
        BundleError: the bundle cannot be used.
        InputError: a model of rotations only.
    """
    bundle = ModelBundle.from_pretrained(runs.bundle_directory(run_or_bundle))
    if bundle.model.config.rotation_only:
        raise InputError(
            f"{bundle.name} estimates rotations of a known object: there is no presence to fit"
        )
    return Subject(Estimator(bundle, device), runs.bundle_source(bundle, data_root))
