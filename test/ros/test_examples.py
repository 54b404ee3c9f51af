"""The examples beside the estimator, on a real graph."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import Pose
from spyropose_ros.srv import ScoreGrasps

from graph import call, detection

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("wait_until_sure", "grasp_candidates"):
        sys.modules.pop(name, None)


def test_the_condition_waits_asks_for_a_view_and_is_sure_in_the_end(start):
    from wait_until_sure import IsSure, Status

    peer = start(objects=["models/demo_mug"], detector="topic")
    places = [Pose(), Pose()]
    places[1].position.x = 0.1
    condition = IsSure(peer.node, probability=0.999, cameras=places)
    assert condition.tick() is Status.RUNNING and condition.camera is None
    peer.send(detection())

    def asks():
        assert condition.tick() is Status.RUNNING  # noise is no mug
        return condition.camera is not None

    peer.spin_until(asks, 60)
    assert 0 < condition.probability < 0.999
    assert condition.camera.pose in places
    assert condition.camera.header == peer.distributions[0].header

    modest = IsSure(peer.node, distance=9.0, angle=4.0)
    peer.spin_until(lambda: modest.tick() is Status.SUCCESS)
    assert modest.camera is None and modest.probability == pytest.approx(1)


def test_grasps_are_where_the_object_is_and_cost_what_may_fail(start, tmp_path):
    from grasp_candidates import candidates, read_grasps

    path = tmp_path / "grasps.yaml"
    anyhow = {"angles": [4, 4, 4]}
    above = {"position": [0, 0, 0.1], "quaternion": [0, 0, 0, 1], "tolerance": [1, 1, 1]}
    at = {"position": [0, 0, 0], "quaternion": [1, 0, 0, 0], "tolerance": [0.001, 1, 1]}
    path.write_text(yaml.safe_dump([above | anyhow, at | anyhow]))
    peer = start(objects=["models/demo_mug"], detector="topic")
    peer.send(detection())
    peer.spin_until(lambda: peer.distributions)
    request = read_grasps(path, "mug")
    response = call(peer.node, peer.spin_until, ScoreGrasps, "score_grasps", request)
    assert response.success, response.message
    stamped, costs = candidates(request, response)
    assert [message.header for message in stamped] == [response.header] * 2
    expected = [1 - response.presence * p for p in response.probabilities]
    assert costs == pytest.approx(expected) and costs[0] < costs[1]
    planned = response.planned_for.position
    above, at = (message.pose.position for message in stamped)
    assert (at.x, at.y, at.z) == pytest.approx((planned.x, planned.y, planned.z))
    distance = np.linalg.norm([above.x - at.x, above.y - at.y, above.z - at.z])
    assert distance == pytest.approx(0.1)
