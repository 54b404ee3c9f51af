"""The parameters of the viewer's node."""

from __future__ import annotations

from dataclasses import dataclass

from spyropose_ros.ros.pipeline.parameter_fields import parameter
from spyropose_ros.ros.pipeline.parameter_groups import QosParameters
from spyropose_ros.ros.pipeline.parameters import NodeParameters, check_names, fixed_cameras


@dataclass(frozen=True)
class ViewerParameters(NodeParameters):
    """All parameters of the viewer's node."""

    file = "config/viewer.yaml"

    host: str = parameter(
        "127.0.0.1",
        "Address to listen on: 127.0.0.1 for browsers of this machine, 0.0.0.0 for those of all of "
        "its networks, who then see the images without a password",
    )
    port: int = parameter(
        8080, "Port to listen on; the next free one where it is in use", low=1024, high=65535
    )
    cameras: tuple[str, ...] = parameter(
        (), "Names of several cameras, as the estimator has them; empty: one without a name"
    )
    camera_poses: tuple[str, ...] = parameter(
        (),
        "Fixed poses of the cameras' optical frames, as the estimator has them; a camera without "
        "one is looked up in TF",
    )
    rectified: bool = parameter(
        True, "Whether images are rectified; with false they are rectified by camera_info"
    )
    qos: QosParameters = QosParameters("best_effort", 1)

    def check(self) -> None:
        """See NodeParameters."""
        check_names(self.cameras)
        fixed_cameras(self.cameras, self.camera_poses)
