"""Every message class the node uses, imported in one place, and their names."""

try:
    from builtin_interfaces.msg import Duration
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from geometry_msgs.msg import (
        Point,
        Pose,
        PoseArray,
        PoseWithCovariance,
        PoseWithCovarianceStamped,
        Quaternion,
        Transform,
        TransformStamped,
        Vector3,
    )
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image
    from std_msgs.msg import ColorRGBA, Header, String
    from std_srvs.srv import SetBool, Trigger
    from tf2_msgs.msg import TFMessage
    from vision_msgs.msg import (
        BoundingBox3D,
        Detection2D,
        Detection2DArray,
        Detection3D,
        Detection3DArray,
        ObjectHypothesis,
        ObjectHypothesisWithPose,
    )
    from visualization_msgs.msg import Marker, MarkerArray

    from spyropose_ros.msg import (
        FeatureEstimate,
        FeatureEstimateArray,
        PoseDistribution,
        PoseDistributionArray,
        PoseMode,
    )
    from spyropose_ros.srv import LocateFeature, NextView, QueryPose, ScoreGrasps
except ImportError as error:
    raise ImportError(
        f"{error}: build the workspace and source its install/setup.bash, or use ./run, "
        "which does both"
    ) from error

__all__ = [
    "BoundingBox3D",
    "CameraInfo",
    "ColorRGBA",
    "CompressedImage",
    "Detection2D",
    "Detection2DArray",
    "Detection3D",
    "Detection3DArray",
    "DiagnosticArray",
    "DiagnosticStatus",
    "Duration",
    "FeatureEstimate",
    "FeatureEstimateArray",
    "Header",
    "Image",
    "KeyValue",
    "LocateFeature",
    "Marker",
    "MarkerArray",
    "NextView",
    "ObjectHypothesis",
    "ObjectHypothesisWithPose",
    "Point",
    "Pose",
    "PoseArray",
    "PoseDistribution",
    "PoseDistributionArray",
    "PoseMode",
    "PoseWithCovariance",
    "PoseWithCovarianceStamped",
    "Quaternion",
    "QueryPose",
    "ScoreGrasps",
    "SetBool",
    "String",
    "TFMessage",
    "Transform",
    "TransformStamped",
    "Trigger",
    "Vector3",
    "type_name",
]


def type_name(kind: type) -> str:
    """Return the name of a message class, such as sensor_msgs/msg/Image."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
