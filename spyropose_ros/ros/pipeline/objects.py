"""The configured objects: their bundles and the classes that stand for them. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from spyropose_ros.core.bundle_files import (
    CONFIG,
    FORMAT,
    WEIGHTS,
    ObjectInfo,
    is_hub_id,
    read_config,
    read_object,
)
from spyropose_ros.core.errors import BundleError
from spyropose_ros.core.files import sha256
from spyropose_ros.ros.pipeline.parameters import ParameterError, Parameters

DEMO_MODEL = "models/demo_mug"


@dataclass(frozen=True)
class Objects:
    """What is estimated.

    Attributes:
        infos: the objects by name.
        bundles: folder or hub id of each object's model, by name.
        classes: names of objects by the class ids of detections.
    """

    infos: dict[str, ObjectInfo]
    bundles: dict[str, str]
    classes: dict[str, str]


def read_objects(parameters: Parameters) -> Objects:
    """Read the descriptions of all bundles; those on the hub are downloaded.

    Args:
        parameters: name the bundles and map the classes.

    Returns:
        The objects.

    Raises:
        ParameterError: if a bundle is missing or damaged, two are of the same object, or a class
            maps to no object.
    """
    bundles = [locate(bundle) for bundle in parameters.objects] or [demo_bundle()]
    infos, sources = _read(bundles)
    for class_id, name in parameters.classes.items():
        if name not in infos:
            raise ParameterError(
                f"parameter 'class_map' maps {class_id!r} to {name!r}, which has no model: "
                f"write one of {', '.join(infos)}"
            )
    return Objects(infos, sources, {name: name for name in infos} | parameters.classes)


def check_objects(parameters: Parameters) -> None:
    """Check what can be known before PyTorch is loaded, within a tenth of a second.

    Args:
        parameters: name the bundles and map the classes. Bundles on the hub are not looked at.

    Raises:
        ParameterError: as for `read_objects`.
    """
    bundles = [locate(bundle) for bundle in parameters.objects]
    local = [bundle for bundle in bundles if not is_hub_id(bundle)]
    if len(local) == len(bundles):
        read_objects(parameters)
    else:
        _read(local)
    for bundle in local:
        with naming_the_parameter():
            check_weights(Path(bundle))


def locate(bundle: str, parameter: str = "objects") -> str:
    """Find the folder of a bundle.

    Args:
        bundle: folder, also with ~ or package://name/..., or a hub id, which is returned as it is.
        parameter: that has it, for messages.

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
            f"parameter '{parameter}' has {bundle!r} but there is no package {package!r}: "
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


@contextmanager
def naming_the_parameter(name: str = "objects") -> Iterator[None]:
    """Name the parameter that a bundle comes from in its errors."""
    try:
        yield
    except BundleError as error:
        raise ParameterError(f"parameter '{name}': {error}") from error
    except OSError as error:
        raise ParameterError(
            f"parameter '{name}': a file of a bundle cannot be read ({error}): check that you may "
            "read it"
        ) from error


def _read(bundles: Sequence[str]) -> tuple[dict[str, ObjectInfo], dict[str, str]]:
    """Return the objects and the bundles by the objects' names."""
    infos: dict[str, ObjectInfo] = {}
    sources: dict[str, str] = {}
    for bundle in bundles:
        with naming_the_parameter():
            info = read_object(bundle)
        if info.name in infos:
            raise ParameterError(f"parameter 'objects' has two models of {info.name!r}: keep one")
        infos[info.name], sources[info.name] = info, bundle
    return infos, sources


def check_weights(
    folder: Path, config: str = CONFIG, format: str = FORMAT, weights: str = WEIGHTS
) -> None:
    """Compare the checksum of a bundle's weights with its description.

    Args:
        folder: of the bundle.
        config: name of the file that describes it.
        format: of that file.
        weights: name of the file with the weights.

    Raises:
        BundleError: they differ.
        OSError: a file cannot be read.
    """
    expected = read_config(folder, config, format).get("weights_sha256")
    if expected is not None and sha256((folder / weights).read_bytes()) != expected:
        raise BundleError(
            f"{folder / weights} is damaged or not the file that {config} describes (sha256 "
            "differs); copy or download it again"
        )
