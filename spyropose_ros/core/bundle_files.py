"""The files of a bundle, without its network: needs no PyTorch and is fast to import."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from spyropose_ros.core.errors import BundleError, InputError
from spyropose_ros.core.files import write_text

FORMAT = "spyropose_ros/1"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
MESH = "mesh.ply"
_LONGEST_NAME = 100
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ObjectInfo:
    """What the model knows about its object.

    Attributes:
        name: matched with the class ids of detections.
        center: bounding-sphere centre in object coordinates, metres.
        diameter: of the bounding sphere, metres.
        size_ratio: mean over views of the apparent size; see `camera.translation_from_boxes`.
        size_ratio_std: its standard deviation over views.
        keypoints: relative to the centre, metres, [P, 3]; empty for the vector scorer.
    """

    name: str
    center: list[float]
    diameter: float
    size_ratio: float
    size_ratio_std: float
    keypoints: list[list[float]]

    def __post_init__(self) -> None:
        check_name(self.name)
        sizes = self.diameter, self.size_ratio
        numbers = [*sizes, self.size_ratio_std, *self.center, *sum(self.keypoints, [])]
        if not all(map(math.isfinite, numbers)) or min(sizes) <= 0 or len(self.center) != 3:
            raise InputError(
                "an object needs finite numbers, a center of 3, and a diameter and size_ratio > 0"
            )


@dataclass(frozen=True)
class Feature:
    """A place of the object that has a name: a handle's end, a hole and its axis.

    Attributes:
        point: in object coordinates, metres, [3].
        direction: in object coordinates, any length but 0, [3]; None for a feature without.

    Raises:
        InputError: no three finite numbers, or a direction of no length.
    """

    point: list[float]
    direction: list[float] | None = None

    def __post_init__(self) -> None:
        for vector in (self.point, self.direction or [1.0, 0.0, 0.0]):
            if len(vector) != 3 or not all(map(math.isfinite, vector)):
                raise InputError(f"a feature is made of three finite numbers each, got {vector}")
        if self.direction is not None and not any(self.direction):
            raise InputError("the direction of a feature must have a length, got 0 0 0")


def described_features(config: dict, directory: Path) -> dict[str, Feature]:
    """Return the features in a config.json, by name; it may have none.

    Args:
        config: with `features: {name: [[x, y, z], [dx, dy, dz]]}`, the direction being optional.
        directory: of the bundle.

    Returns:
        The features.

    Raises:
        BundleError: they are not described like that.
    """
    try:
        features = {name: Feature(*vectors) for name, vectors in config.get("features", {}).items()}
        for name in features:
            check_name(name, "a feature")
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise BundleError(
            f'{directory / CONFIG}: features must be like {{"handle": [[x, y, z], [dx, dy, dz]]}}'
            f", numbers in metres in object coordinates, the direction being optional ({error})"
        ) from error
    return features


def written_features(features: dict[str, Feature]) -> dict[str, list[list[float]]]:
    """Return features as a config.json has them; inverts `described_features`."""
    for name in features:
        check_name(name, "a feature")
    return {
        name: [list(map(float, vector)) for vector in (one.point, one.direction) if vector]
        for name, one in features.items()
    }


def check_name(name: object, owner: str = "an object") -> None:
    """Refuse what cannot be a name: it is part of file names and of log lines.

    Args:
        name: the name.
        owner: what has it, in the error's text.

    Raises:
        InputError: it is no text of one line, has slashes or spaces around it, or means a folder.
    """
    text = name if isinstance(name, str) else ""
    usable = 0 < len(text) <= _LONGEST_NAME and text.isprintable() and text == text.strip()
    if not usable or set(text) & {"/", "\\"} or text in (".", ".."):
        raise InputError(
            f"{owner}'s name is one line of up to {_LONGEST_NAME} characters without slashes, "
            f"got {str(name)[:_LONGEST_NAME]!r}"
        )


def write_config(directory: Path, config: dict) -> None:
    """Write a bundle's config.json, in one step: with it a training is finished."""
    write_text(directory / CONFIG, json.dumps(config, indent=1) + "\n")


def read_object(directory_or_hub_id: str | Path) -> ObjectInfo:
    """Read what a bundle is for, without loading its weights.

    Args:
        directory_or_hub_id: as for `ModelBundle.from_pretrained`.

    Returns:
        The object that the model estimates.

    Raises:
        BundleError: missing, damaged or foreign, with the reason.
    """
    directory = locate(str(directory_or_hub_id))
    config = read_config(directory)
    if not (directory / WEIGHTS).is_file():
        raise BundleError(f"{directory} is incomplete: {WEIGHTS} is missing")
    return described_object(config, directory)


def described_object(config: dict, directory: Path) -> ObjectInfo:
    """Return the object that a config.json describes."""
    try:
        return ObjectInfo(**config["object"])
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise undescribed(directory, error) from error


def undescribed(directory: Path, error: Exception) -> BundleError:
    """Return the error for a config.json that lacks something."""
    return BundleError(
        f"{directory / CONFIG} does not describe a model of this version "
        f"({type(error).__name__}: {error}); export the bundle again"
    )


def bundle_name(directory_or_hub_id: str | Path) -> str:
    """Return what a bundle is called: its folder, or its training's, if that is named "bundle"."""
    path = Path(directory_or_hub_id)
    return path.absolute().parent.name if path.name == "bundle" else path.name


def is_hub_id(name: str) -> bool:
    """Whether a bundle's name is that of a repository on the hub, not of a folder."""
    directory = Path(name).expanduser()
    return not directory.is_dir() and not directory.is_absolute() and bool(_HUB_ID.fullmatch(name))


def locate(name: str, needed: tuple[str, str] = (CONFIG, WEIGHTS), optional: str = MESH) -> Path:
    """Return the local folder of a bundle; download it when the name is a hub id.

    Args:
        name: folder, or name of a repository such as owner/name.
        needed: names of the files that make the bundle.
        optional: name of one that it may have.

    Returns:
        The folder; what is in it is not checked.

    Raises:
        BundleError: no such folder, or the hub does not provide it.
    """
    directory = Path(name).expanduser()
    if directory.is_dir():
        return directory
    if is_hub_id(name):
        from huggingface_hub import snapshot_download  # slow to import
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(name, allow_patterns=[*needed, optional]))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            raise BundleError(
                f"no model bundle at '{name}': no such folder, and the hub did not provide it "
                f"({type(error).__name__}); give the path of a folder with {' and '.join(needed)}"
            ) from error
    raise BundleError(
        f"no model bundle at '{name}': no such folder; give the path of a folder with "
        f"{' and '.join(needed)}"
    )


def read_config(directory: Path, name: str = CONFIG, format: str = FORMAT) -> dict:
    """Read a bundle's config.json, or another such file, and check its format."""
    path = directory / name
    if not path.is_file():
        inner = directory / "bundle"  # of a training's folder
        meant = f"; did you mean {inner}?" if (inner / name).is_file() else ""
        raise BundleError(f"{directory} is not a model bundle: {name} is missing{meant}")
    try:
        config = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is damaged, not valid JSON: {error}") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != format:
        raise BundleError(f"{path} is of format {found!r}, this package reads {format!r}")
    return config
