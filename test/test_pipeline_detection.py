"""The pipeline where it detects and follows by itself: what is searched, and where objects are."""

from dataclasses import replace

import numpy as np
import pytest
from std_msgs.msg import Header

from spyropose_ros.demo.camera import camera_info
from spyropose_ros.demo.frames import open_frames
from spyropose_ros.ros.pipeline import pipeline as pipeline_module
from spyropose_ros.ros.pipeline.camera_frame import Frame, FrameSet
from spyropose_ros.ros.pipeline.drops import Reason
from spyropose_ros.ros.pipeline.finder import Finder
from spyropose_ros.ros.pipeline.images import image_message
from spyropose_ros.ros.pipeline.models import Models, demo_bundle
from spyropose_ros.ros.pipeline.parameters import (
    DetectionParameters,
    DetectorParameters,
    Parameters,
    SearchParameters,
    TemporalParameters,
)
from spyropose_ros.ros.pipeline.pipeline import Pipeline
from spyropose_ros.ros.pipeline.tf_buffer import TransformBuffer

PARAMETERS = Parameters(
    objects=(demo_bundle(),),
    device="cpu",
    threads=1,
    search=SearchParameters(beam=16),
    cameras=("left", "right"),
    fixed_frame="world",
    camera_poses=("left=0 0 0 0 0 0 1", "right=0.05 0 0 0 0 0 1"),
    detector=DetectorParameters(rate=0.1),
    temporal=TemporalParameters(enabled=True),
)


def messages(camera, seconds, image, K):
    header = Header(frame_id=camera)
    header.stamp.sec = seconds
    height, width = image.shape[:2]
    info = camera_info(K, width, height)
    info.header = header
    return Frame(camera, image_message(header, image), None, info)


@pytest.fixture(scope="module")
def found():
    """The models and their detector."""
    models = Models(PARAMETERS, lambda text: None)
    return models, Finder([demo_bundle()], models, lambda text: None)


@pytest.fixture(scope="module")
def shot():
    """A frame of the demo."""
    return open_frames("mug", 3)[1]


@pytest.fixture
def make(found):
    """Makes a pipeline; what it drops is appended to a list of reasons."""

    def make_pipeline(reasons):
        models, finder = found
        return Pipeline(
            models,
            TransformBuffer(),
            lambda reason, text, count=1: reasons.append(reason),
            lambda text: None,
            print,
            finder,
        )

    return make_pipeline


def test_an_object_is_followed_only_where_it_was_detected(make, shot, monkeypatch):
    black = np.zeros_like(shot.image)
    used, dropped = [], []
    estimate = pipeline_module.estimate_views

    def estimate_views(estimator, views, *others):
        used.append([view.camera for view in views])
        return estimate(estimator, views, *others)

    monkeypatch.setattr(pipeline_module, "estimate_views", estimate_views)
    pipeline = make(dropped)
    for seconds, image in (1, shot.image), (2, black):
        left = messages("left", seconds, image, shot.K)
        hidden = messages("right", seconds, black, shot.K)  # something is before its lens
        assert pipeline.process(FrameSet((left, hidden)), PARAMETERS).distributions
    assert len(used) >= 2 and all(cameras == ["left"] for cameras in used)
    assert dropped == []


def test_what_cannot_be_searched_does_not_delay_the_next_search(make, shot):
    dropped = []
    pipeline = make(dropped)
    early = replace(messages("left", 1, shot.image, shot.K), camera_info=None)
    unknown = replace(PARAMETERS, camera_poses=())
    assert pipeline.process(FrameSet((early,)), PARAMETERS) is None
    complete = [messages("left", seconds, shot.image, shot.K) for seconds in (2, 3, 4)]
    assert pipeline.process(FrameSet((complete[0],)), unknown) is None
    assert dropped == [Reason.NO_CAMERA_INFO, Reason.NO_TRANSFORM]
    results = [pipeline.process(FrameSet((frame,)), PARAMETERS) for frame in complete[1:]]
    assert [result.detection is not None for result in results] == [True, False]


@pytest.mark.parametrize(
    "own, general, any_found", [(0.5, 0.0, True), (0.5, 1.0, False), (1.0, 0.0, False)]
)
def test_the_larger_of_both_lowest_scores_counts(make, shot, own, general, any_found):
    parameters = replace(
        PARAMETERS,
        detector=DetectorParameters(min_score=own),
        detections=DetectionParameters(min_score=general),
    )
    frame = messages("left", 1, shot.image, shot.K)
    result = make([]).process(FrameSet((frame,)), parameters)
    assert (result.detection.boxes > 0) == bool(result.targets) == any_found
