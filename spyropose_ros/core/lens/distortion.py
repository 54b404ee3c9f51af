"""Lens models: what a sensor_msgs/CameraInfo says in distortion_model and D."""

from __future__ import annotations

from typing import Any

import numpy as np

from spyropose_ros.core.errors import CalibrationError

# numbers of distortion coefficients that OpenCV knows, by model; sensor_msgs/distortion_models.hpp
DISTORTION_MODELS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (4, 5, 8, 12, 14),  # 12: and thin prism; 14: and tilted sensor
    "equidistant": (4,),
}
# other names of the same model: of OpenCV, and of its authors
SYNONYMS = {"fisheye": "equidistant", "kannala_brandt": "equidistant"}


def read_distortion(info: Any) -> tuple[str, np.ndarray]:
    """Read the lens model of a camera.

    Drivers fill D with zeros beyond what the model has, and where the image is not distorted they
    leave the model empty or write none; both are certain in their meaning.

    Args:
        info: sensor_msgs/CameraInfo.

    Returns:
        One of DISTORTION_MODELS and its coefficients, as many as OpenCV knows for it.

    Raises:
        CalibrationError: if the model is unknown, or has another number of coefficients.
    """
    coefficients = np.asarray(info.d, dtype=float)
    if not np.isfinite(coefficients).all():
        raise CalibrationError(
            "camera_info has values in D that are not finite: calibrate the camera"
        )
    given = len(coefficients)
    used = len(np.trim_zeros(coefficients, "b"))
    named = info.distortion_model.lower()
    if named in ("", "none") and not used:
        return "plumb_bob", np.zeros(4)
    model = SYNONYMS.get(named, named)
    if model not in DISTORTION_MODELS:
        raise CalibrationError(
            f"camera_info has the distortion model {info.distortion_model!r}"
            + (f" but {used} coefficients in D" if not info.distortion_model else "")
            + f": use one of {', '.join(DISTORTION_MODELS)}, or rectified images"
        )
    counts = DISTORTION_MODELS[model]
    if not used:
        coefficients = np.zeros(counts[0])
    fitting = [count for count in counts if used <= count <= len(coefficients)]
    if not fitting:
        others = [name for name, known in DISTORTION_MODELS.items() if given in known]
        meaning = f", as {' or '.join(others)} would have" if others else ""
        raise CalibrationError(
            f"camera_info has {given} values in D{meaning}, but {info.distortion_model} has "
            f"{' or '.join(map(str, counts))}: correct the model or the values, or calibrate "
            "the camera"
        )
    return model, coefficients[: max(fitting)]
