"""What is proposed where an input is missing: topics of the type that may be meant."""

import pytest

from spyropose_ros.ros.interfaces import (
    CameraInfo,
    CompressedImage,
    Image,
    PoseDistributionArray,
    type_name,
)
from spyropose_ros.ros.pipeline.frame_source import Role
from spyropose_ros.ros.pipeline.topic_choice import likely

TOPICS = [
    (topic, type_name(kind))
    for topic, kind in [
        ("/rear/image", Image),
        ("/front/image", Image),
        ("/front/depth", Image),
        ("/front/camera_info", CameraInfo),
        ("/front/image/compressed", CompressedImage),
        ("/front/depth/compressedDepth", CompressedImage),
        ("/arm/estimator/distributions", PoseDistributionArray),
        ("/arm/estimator/overlay", Image),
        ("/arm/image", Image),
    ]
]


@pytest.mark.parametrize(
    "kind, role, used, expected",
    [
        (Image, Role.IMAGE, [], ["/arm/image", "/front/image", "/rear/image"]),
        (Image, Role.IMAGE, ["/front/image", "/arm/image"], ["/rear/image"]),
        (Image, Role.IMAGE, ["/arm/image", "/front/image", "/rear/image"], ["/front/depth"]),
        (Image, Role.DEPTH, [], ["/front/depth"]),
        (CompressedImage, Role.IMAGE, [], ["/front/image/compressed"]),
        (CameraInfo, Role.CAMERA_INFO, [], ["/front/camera_info"]),
        (CameraInfo, Role.CAMERA_INFO, ["/front/camera_info"], []),
    ],
)
def test_topics_that_may_be_meant(kind, role, used, expected):
    assert likely(TOPICS, kind, role, used) == expected
