"""Every message class the node uses, imported in one place."""

try:
    from builtin_interfaces.msg import Duration
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
    from sensor_msgs.msg import CameraInfo, Image
    from spyropose_ros.msg import PoseDistribution, PoseDistributionArray, PoseMode
    from std_msgs.msg import ColorRGBA, Header
    from vision_msgs.msg import Detection2DArray
    from visualization_msgs.msg import Marker, MarkerArray
except ImportError as error:
    raise ImportError(
        f"{error}: build the workspace and source its install/setup.bash, or use ./run, "
        "which does both"
    ) from error

__all__ = [
    "CameraInfo",
    "ColorRGBA",
    "Detection2DArray",
    "DiagnosticArray",
    "DiagnosticStatus",
    "Duration",
    "Header",
    "Image",
    "KeyValue",
    "Marker",
    "MarkerArray",
    "Point",
    "Pose",
    "PoseArray",
    "PoseDistribution",
    "PoseDistributionArray",
    "PoseMode",
    "Quaternion",
]
