"""Where an annotated pose puts the object: nobody takes a picture from inside or behind it."""

import numpy as np

from spyropose_ros.bop.files import MM
from spyropose_ros.bop.scene import BopFrame, BopInstance
from spyropose_ros.core.errors import DataError

_TOUCHING = 0.05  # diameters: nobody takes a picture from as near to the object's origin
_CENTRAL = 0.25  # diameters: or from as near to its centre


def check_place(
    frame: BopFrame, instance: BopInstance, center: np.ndarray, diameter: float
) -> None:
    """Refuse a pose that puts the camera inside the object, or a visible object behind the camera.

    Args:
        frame: the image.
        instance: of the object.
        center: of the object's bounding sphere, object frame, metres, [3].
        diameter: of that sphere, metres.

    Raises:
        DataError: the pose cannot be true, with the likely cause.
    """
    in_camera = instance.rotation @ center + instance.translation
    distance = np.linalg.norm(in_camera)
    mm = (instance.translation / MM).round(4).tolist()
    where = f"{frame.image_path.parents[1]}, image {frame.frame_id}: cam_t_m2c is {mm}"
    touching = np.linalg.norm(instance.translation) < _TOUCHING * diameter
    if distance < _CENTRAL * diameter or (touching and distance < diameter):
        raise DataError(
            f"{where} mm, inside object {instance.object_id} of {diameter / MM:.4g} mm: give "
            "translations in millimetres, not in metres"
        )
    seen = instance.visibility is None or instance.visibility.pixels > 0
    if seen and not in_camera[2] > 0:
        raise DataError(
            f"{where}, the object's centre {-in_camera[2]:.3f} m behind the camera: poses must "
            "take the object frame to the camera frame (not the inverse), x right, y down, z "
            "forward (not OpenGL's z); leave out objects that are behind the camera"
        )
