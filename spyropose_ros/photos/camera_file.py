"""A camera's calibration in a file, as camera drivers write and read it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from spyropose_ros.core.errors import CalibrationError, MissingFileError

_LENGTHS = {"k": 9, "r": 9, "p": 12}
_REMEDY = (
    "give the YAML file of the camera driver or of camera_calibration, or what "
    "`ros2 topic echo --once camera_info` prints"
)


def read_camera_file(path: Path) -> SimpleNamespace:
    """Read a calibration.

    Args:
        path: of the YAML file that camera_calibration and camera_calibration_parsers write, or of
            the output of `ros2 topic echo --once` of a camera_info topic.

    Returns:
        What a sensor_msgs/CameraInfo has, under the same names.

    Raises:
        CalibrationError: the file is damaged or describes no camera.
        MissingFileError: there is no such file.
        OSError: the file cannot be read.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such calibration file; check the path")
    try:
        content = next(yaml.safe_load_all(path.read_text()), None)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise CalibrationError(f"{path} is not valid YAML ({reason}): {_REMEDY}") from error
    content = content if isinstance(content, dict) else {}
    try:
        fields = _of_driver(content) if "camera_matrix" in content else _of_message(content)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CalibrationError(
            f"{path} is not the calibration of a camera ({type(error).__name__}: {error}): "
            f"{_REMEDY}"
        ) from error
    return SimpleNamespace(**fields)


def _of_driver(content: dict) -> dict[str, Any]:
    names = {
        "k": "camera_matrix",
        "d": "distortion_coefficients",
        "r": "rectification_matrix",
        "p": "projection_matrix",
    }
    return {
        "width": int(content["image_width"]),
        "height": int(content["image_height"]),
        # Drivers take plumb_bob where an old file names no model.
        "distortion_model": str(content.get("distortion_model", "plumb_bob")),
        **{field: _numbers(field, content[name]["data"]) for field, name in names.items()},
        **_whole_sensor(),
    }


def _of_message(content: dict) -> dict[str, Any]:
    region = content.get("roi") or {}
    return {
        "width": int(content["width"]),
        "height": int(content["height"]),
        "distortion_model": str(content["distortion_model"]),
        **{field: _numbers(field, content[field]) for field in "kdrp"},
        **_whole_sensor(),
        "binning_x": int(content.get("binning_x", 0)),
        "binning_y": int(content.get("binning_y", 0)),
        "roi": SimpleNamespace(
            **{
                name: int(region.get(name, 0))
                for name in ("x_offset", "y_offset", "width", "height")
            }
        ),
    }


def _whole_sensor() -> dict[str, Any]:
    region = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    return {"binning_x": 0, "binning_y": 0, "roi": region}


def _numbers(field: str, values: list) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != _LENGTHS.get(field, len(numbers)):
        raise ValueError(f"{len(numbers)} values in {field.upper()}, not {_LENGTHS[field]}")
    return numbers
