"""What a part's training consists of, and how its hours are divided."""

from dataclasses import asdict, dataclass
from typing import Literal

from spyropose_ros.core.errors import InputError

POSE_SHARE, DETECTOR_SHARE = 0.58, 0.28
"""Of the hours; the rest is for rendering, calibration and evaluation."""

PHOTOS_SHARE = 0.3
"""Of the pose model's hours, where there are photographs."""

_TEST_SECONDS, _CALIBRATION_SECONDS, _RENDERING_SECONDS = 2.0, 0.2, 0.25
"""Of a core, for one image: to search it with the whole beam; to render a crop and search it twice
with the beam of the calibration; to render it and to detect or look at the objects in it."""

_HOURS = 1.0  # from which on a training is validated as rarely as in its preset
_SMALLEST, _LARGEST = 0.02, 1000.0
_FEWEST, _MOST = 20, 500  # images of a step
_FEWEST_FOR_PRESENCE = 100  # which show the part often enough


@dataclass(frozen=True)
class Settings:
    """What the command line says; a run goes on with the same.

    Attributes:
        mesh: SHA-256 of the CAD file.
        name: of the object, the class id of detections.
        units: of the CAD file.
        hours: core-hours on processors, hours on a GPU, of all stages together.
        symmetry: see `training.generate.symmetry.symmetry_of`.
        views: sides that are seen.
        distance: smallest and largest z of the part's centre, metres; None for 3.5 and 8
            diameters.
        seed: of everything random.
        photos: folder of photographs, absolute; None without.
    """

    mesh: str
    name: str
    units: str
    hours: float
    symmetry: str
    views: Literal["uniform", "upright"]
    distance: tuple[float, float] | None
    seed: int
    photos: str | None = None

    def __post_init__(self) -> None:
        if not _SMALLEST <= self.hours <= _LARGEST:
            raise InputError(
                f"--hours must be between {_SMALLEST:g} and {_LARGEST:g}, got {self.hours:g}: 2 "
                "show whether it works"
            )

    def to_dict(self) -> dict:
        """Return plain values by name, as JSON gives them back."""
        values = asdict(self)
        return values | {"distance": list(self.distance) if self.distance else None}


@dataclass(frozen=True)
class Plan:
    """Shares of the hours: of those of this stage for the trainings, else of all.

    Attributes:
        detector_hours: of its training.
        pose_hours: of the pose model's training on renderings.
        photos_hours: of its training on renderings and photographs; on renderings alone if these
            have no labels.
        test_images: of the held-out set.
        calibration_images: that the pose model is calibrated on.
        detector_images: that the detector is calibrated on, and as many that it is evaluated on.
        presence_images: that presence is fitted to, and as many that it is evaluated on.
        steps_per_epoch: between validations.
        validation_images: of each of them.
    """

    detector_hours: float
    pose_hours: float
    photos_hours: float
    test_images: int
    calibration_images: int
    detector_images: int
    presence_images: int
    steps_per_epoch: int
    validation_images: int

    @classmethod
    def of(cls, hours: float, before: float = 0.0, photos: bool = False) -> "Plan":
        """Divide hours.

        Args:
            hours: of all stages.
            before: of the finished stages.
            photos: whether there are photographs.

        Returns:
            The shares.

        Raises:
            InputError: too little is left to train.
        """
        more = round(hours - before, 5)
        if more < _SMALLEST:
            raise InputError(
                f"--hours {hours:g} adds {more:g} to the {before:g} that are done: give "
                f"{before + _SMALLEST:g} or more"
            )
        photographs = PHOTOS_SHARE if photos else 0.0
        share = min(1.0, more / _HOURS)
        rest = (1 - POSE_SHARE - DETECTOR_SHARE) * 3600 * hours  # seconds
        return cls(
            detector_hours=round(DETECTOR_SHARE * more, 5),
            pose_hours=round(POSE_SHARE * more * (1 - photographs), 5),
            photos_hours=round(POSE_SHARE * more * photographs, 5),
            test_images=_number(0.5 * rest / _TEST_SECONDS),
            calibration_images=_number(0.3 * rest / _CALIBRATION_SECONDS),
            detector_images=_number(0.1 * rest / _RENDERING_SECONDS),
            presence_images=max(_FEWEST_FOR_PRESENCE, _number(0.05 * rest / _RENDERING_SECONDS)),
            steps_per_epoch=max(20, round(200 * share)),
            validation_images=max(16, round(64 * share)),
        )


def _number(images: float) -> int:
    return int(min(max(images, _FEWEST), _MOST))
