"""Questions to the node's distributions, on a real graph."""

import re

import numpy as np
import pytest
from geometry_msgs.msg import Point, Pose, Vector3

from graph import call, detection
from spyropose_ros.ros.interfaces import (
    FeatureEstimateArray,
    LocateFeature,
    NextView,
    QueryPose,
    ScoreGrasps,
    Trigger,
)
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds

MUG = "models/demo_mug"
KINDS = {
    "score_grasps": ScoreGrasps,
    "query_pose": QueryPose,
    "locate_feature": LocateFeature,
    "next_view": NextView,
}


def pose(x=0.0, y=0.0, z=0.0, w=1.0):
    message = Pose()
    message.position.x, message.position.y, message.position.z = x, y, z
    message.orientation.w = w
    return message


def vector(value):
    return Vector3(x=value, y=value, z=value)


def grasps(**changes):
    given = {
        "grasps": [pose(), pose(z=0.05)],
        "translation_tolerances": [vector(0.02)],
        "rotation_tolerances": [vector(0.3), vector(3.2)],
    }
    return ScoreGrasps.Request(**given | changes)


GOOD = {
    "score_grasps": grasps(),
    "query_pose": QueryPose.Request(
        poses=[pose(z=0.5)], angle=4.0, distance=10.0, samples=20, components=2
    ),
    "locate_feature": LocateFeature.Request(point=Point(z=0.05), direction=Vector3(z=2.0)),
    "next_view": NextView.Request(cameras=[pose(), pose(x=0.1)]),
}


def ask(peer, name, request):
    return call(peer.node, peer.spin_until, KINDS[name], name, request)


@pytest.fixture
def asked(start):
    """A node with a result."""
    peer = start(objects=[MUG], detector="topic")
    peer.send(detection())
    peer.spin_until(lambda: peer.distributions)
    return peer


def test_what_the_python_calls_give_is_answered(asked):
    """By every service, about the newest result."""
    header = asked.distributions[0].header
    answers = {name: ask(asked, name, request) for name, request in GOOD.items()}
    for name, response in answers.items():
        assert response.success and response.message == "", (name, response.message)
        assert response.header == header
        assert (response.class_id, response.detection_id) == ("mug", "7")
        assert 0 <= response.presence <= 1
    scores = answers["score_grasps"]
    assert len(scores.probabilities) == 2 and 0 < scores.probabilities[1] <= 1
    assert scores.best == int(np.argmax(scores.probabilities))
    assert max(scores.probabilities) <= 1 - scores.uncovered + 0.01
    assert 1 - scores.uncovered <= sum(scores.probabilities) + 0.01
    leading = asked.distributions[0].distributions[0].modes
    if leading:
        assert scores.planned_for == leading[0].pose
    query = answers["query_pose"]
    assert query.probabilities == pytest.approx([1.0])
    assert len(query.samples) == 20
    assert len(query.components) == len(query.weights) <= 2
    assert sum(query.weights) == pytest.approx(1)
    feature = answers["locate_feature"]
    assert np.hypot(feature.estimate.direction.x, feature.estimate.direction.y) <= 1
    assert feature.mass >= 0.9 and feature.semi_axes.x >= feature.semi_axes.y > 0
    look = answers["next_view"]
    assert len(look.information) == len(look.standard_error) == 2
    assert look.best == int(np.argmax(look.information))
    assert look.entropy == pytest.approx(asked.distributions[0].distributions[0].entropy)


BAD = [
    (ScoreGrasps.Request(), "'grasps' is empty"),
    (grasps(grasps=[pose(w=0.0)]), "a quaternion; no turn is 0 0 0 1"),
    (grasps(grasps=[pose(x=float("nan"))]), "finite position"),
    (grasps(translation_tolerances=[]), "0 vectors: give one, or 2"),
    (grasps(translation_tolerances=[vector(-1.0)]), "must be positive"),
    (grasps(rotation_tolerances=[vector(float("nan"))]), "is no number"),
    (grasps(object="banana"), "'banana': name one of 7, mug"),
    (QueryPose.Request(samples=10**6), "at most 100000"),
    (QueryPose.Request(poses=[pose()]), "positive"),
    (LocateFeature.Request(feature="lid"), "no feature 'lid'"),
    (LocateFeature.Request(point=Point(x=float("inf"))), "finite"),
    (LocateFeature.Request(mass=2.0), r"in \(0, 1\)"),
    (NextView.Request(), "'cameras' is empty"),
    (NextView.Request(cameras=[pose()], k=[-1.0] * 9), "K|intrinsics"),
]


def test_bad_questions_get_a_sentence(asked):
    """And the next question an answer."""
    names = {kind.Request: name for name, kind in KINDS.items()}
    for request, text in BAD:
        response = ask(asked, names[type(request)], request)
        assert not response.success and response.header.stamp.sec == 0
        assert re.search(text, response.message), (text, response.message)
    assert ask(asked, "query_pose", GOOD["query_pose"]).success


def test_before_the_first_result_and_after_a_reset_there_is_none(start):
    peer = start()
    assert "no distribution yet" in ask(peer, "query_pose", GOOD["query_pose"]).message
    peer.send(detection())
    peer.spin_until(lambda: peer.distributions)
    assert ask(peer, "query_pose", GOOD["query_pose"]).success
    assert call(peer.node, peer.spin_until, Trigger, "reset", Trigger.Request()).success
    assert "no distribution yet" in ask(peer, "query_pose", GOOD["query_pose"]).message


def test_a_stamp_chooses_the_result(start):
    """As long as it is kept; older ones are said to be too old."""
    peer = start(history=2)
    stamps = []
    for count in range(1, 4):
        stamps.append(peer.send(detection()))
        peer.spin_until(lambda count=count: len(peer.distributions) == count)
    headers = [message.header for message in peer.distributions]

    def at(header):
        return ask(peer, "query_pose", QueryPose.Request(samples=1, stamp=header.stamp))

    assert at(headers[1]).header == headers[1] and at(headers[2]).header == headers[2]
    assert "too old: raise history" in at(headers[0]).message
    headers[2].stamp.nanosec += 1
    assert "ask for one of theirs" in at(headers[2]).message
    assert nanoseconds(headers[0].stamp) == stamps[0]


def test_several_objects_are_told_apart(start, mug_bundle, duck_bundle):
    peer = start(objects=[mug_bundle, duck_bundle])
    peer.send(detection(), detection("duck", x=40.0, name="8"), detection(x=120.0, name="9"))
    peer.spin_until(lambda: peer.distributions)
    query = GOOD["query_pose"]
    assert "more than one object" in ask(peer, "query_pose", query).message
    for name, detection_id in (("duck", "8"), ("9", "9"), ("7", "7")):
        response = ask(peer, "query_pose", QueryPose.Request(object=name, samples=1))
        assert response.detection_id == detection_id
    response = ask(peer, "query_pose", QueryPose.Request(object="mug", samples=1))
    assert response.class_id == "mug"


def test_images_are_processed_while_a_question_is_answered(asked):
    """Looking from many cameras takes seconds; distributions go on."""
    client = asked.node.create_client(NextView, "estimator/next_view")
    asked.spin_until(client.service_is_ready)
    future = client.call_async(NextView.Request(cameras=[pose(x=0.01 * n) for n in range(24)]))
    before = len(asked.distributions)
    for _ in range(5):
        count = len(asked.distributions)
        asked.send(detection())
        asked.spin_until(lambda count=count: len(asked.distributions) > count)
    assert len(asked.distributions) == before + 5 and not future.done()
    asked.spin_until(future.done, 120)
    assert future.result().success


def test_features_are_published_for_whoever_listens(start):
    peer = start(objects=[MUG], detector="topic")
    marginals = peer.listen(FeatureEstimateArray, "marginals")
    peer.send(detection())
    peer.spin_until(lambda: marginals)
    (estimate,) = marginals[0].features
    assert estimate.feature == "handle" and estimate.class_id == "mug"
    header = peer.distributions[0].header
    assert marginals[0].header == header
    answer = ask(peer, "locate_feature", LocateFeature.Request(feature="handle"))
    for coarse, fine in (
        (estimate.position, answer.estimate.position),
        (estimate.direction, answer.estimate.direction),
    ):  # the topic is made of fewer poses
        difference = [coarse.x - fine.x, coarse.y - fine.y, coarse.z - fine.z]
        assert np.linalg.norm(difference) < 0.1
    assert np.isclose(estimate.direction_spread, answer.estimate.direction_spread, rtol=0.05)
