"""The viewer without a browser: from messages to moments, history, panel, and what it refuses."""

import dataclasses
import math
import os

import numpy as np
import pytest

from result_tools import MESH, MODELS, SHOWN, model_info, result_of, two_sided
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.plots.pose_cloud import PoseCloud
from spyropose_ros.ros.interfaces import CameraInfo, Header, String, TFMessage, TransformStamped
from spyropose_ros.ros.messages.result_messages import messages
from spyropose_ros.ros.messages.tf_poses import TransformChooser
from spyropose_ros.ros.pipeline.images import image_message
from spyropose_ros.viewer.__main__ import main
from spyropose_ros.viewer.collector import Collector
from spyropose_ros.viewer.moment import KEPT, Moment, Moments, ObjectState, small_view
from spyropose_ros.viewer.viewer import Viewer


@pytest.fixture
def distributions():
    """~/distributions of two cups."""
    result = result_of(two_sided(0), two_sided(1))
    found = messages(result, MODELS, SHOWN, TransformChooser(), {"~/distributions"}.__contains__)
    return dict(found)["~/distributions"]


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def collector(warnings):
    return Collector(warnings.append)


def camera(collector, header, name="", width=64):
    image = np.full((48, width, 3), 90, np.uint8)
    collector.add_image(name, image_message(header, image))
    info = CameraInfo(header=header, height=48, width=width)
    info.k = [50.0, 0.0, width / 2, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
    info.p = [50.0, 0.0, width / 2, 0.0, 0.0, 50.0, 24.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    collector.add_camera_info(name, info)


def test_a_message_becomes_a_moment(collector, distributions, warnings):
    collector.add_model_info(model_info(MESH.as_uri()))
    camera(collector, distributions.header)
    moment = collector.moment(distributions, latency=0.2)
    assert [each.name for each in moment.objects] == ["cup", "cup 2"]
    assert (moment.latency, moment.inference) == (0.2, 0.25)
    for state, message in zip(moment.objects, distributions.distributions, strict=True):
        cloud = state.cloud
        assert (state.entropy, len(cloud)) == (message.entropy, len(message.poses))
        position = message.poses[3].position
        np.testing.assert_allclose(cloud.translations[3], [position.x, position.y, position.z])
        assert cloud.diameter == 0.12 and len(cloud.mesh.vertices) > 1000
        assert cloud.features == {"handle": (0.07, 0.0, 0.048)}
        expected = cloud.rotations[0] @ [0.07, 0, 0.048] + cloud.translations[0]
        np.testing.assert_allclose(cloud.places("handle")[0], expected)
        assert [mass for *_, mass in cloud.clusters] == [mode.mass for mode in message.modes]
    (view,) = moment.cameras.values()
    np.testing.assert_array_equal(view.pose, np.eye(4))
    assert view.image.shape == (48, 64, 3) and view.K[0, 0] == 50 and not warnings


def test_several_cameras_stand_where_tf_or_their_parameter_says(distributions, warnings):
    collector = Collector(warnings.append, fixed={"left": (0.5, 0, 0, 0, 0, 0, 1)})
    stamp = distributions.header.stamp
    item = TransformStamped(header=distributions.header, child_frame_id="right_optical")
    item.transform.translation.x, item.transform.rotation.w = -0.5, 1.0
    collector.add_transforms(TFMessage(transforms=[item]), static=True)
    for name in ("left", "right", "lost"):
        camera(collector, Header(stamp=stamp, frame_id=f"{name}_optical"), name)
    views = collector.moment(distributions).cameras
    assert {name: view.pose[0, 3] for name, view in views.items()} == {"left": 0.5, "right": -0.5}
    assert any("lost" in text and "publish it on /tf" in text for text in warnings)


def test_only_the_image_of_the_distributions_is_shown(collector, distributions):
    header = Header(frame_id="camera")
    header.stamp.sec = distributions.header.stamp.sec + 1
    camera(collector, header)
    assert collector.moment(distributions).cameras == {}
    camera(collector, distributions.header)
    assert len(collector.moment(distributions).cameras) == 1


@pytest.mark.parametrize(
    "spoil, text",
    [
        (lambda m: m.weights.pop(), "poses and"),
        (lambda m: setattr(m, "weights", [math.nan] * len(m.weights)), "no numbers"),
        (lambda m: setattr(m, "weights", [0.0] * len(m.weights)), "zero"),
        (lambda m: setattr(m.poses[0].orientation, "w", math.inf), "no numbers"),
    ],
)
def test_unusable_numbers_are_refused(collector, distributions, spoil, text):
    spoil(distributions.distributions[0])
    with pytest.raises(InputError, match=text):
        collector.moment(distributions)


@pytest.mark.parametrize(
    "info, text",
    [
        (None, "has not told of model 'demo_mug'"),
        (String(data="{}"), "not of this version"),
        (model_info("file:///nowhere/mesh.ply"), "mesh.ply is not shown"),
    ],
)
def test_without_a_mesh_the_rest_is_shown(collector, distributions, warnings, info, text):
    if info is not None:
        collector.add_model_info(info)
    assert [each.cloud.mesh for each in collector.moment(distributions).objects] == [None, None]
    assert any(text in warning for warning in warnings)


def test_a_large_image_is_reduced_with_its_intrinsics():
    K = np.array([[1000.0, 0, 479.5], [0, 1000.0, 359.5], [0, 0, 1]])
    view = small_view(np.zeros((720, 960, 3), np.uint8), K, np.eye(4))
    assert view.image.shape == (360, 480, 3)
    np.testing.assert_allclose(view.K, [[500, 0, 239.5], [0, 500, 179.5], [0, 0, 1]])


def test_the_history_is_limited_and_keeps_counting():
    history = Moments()
    assert history.get(0) is None and history.span() == (0, -1)
    for number in range(KEPT + 5):
        history.add(Moment(float(number), []))
    assert history.span() == (5, KEPT + 4)
    assert [history.get(n).time for n in (0, 100, KEPT + 99)] == [5.0, 100.0, KEPT + 4.0]


@pytest.fixture
def viewer():
    viewer = Viewer(port=0, say=pytest.fail)
    yield viewer
    viewer.close()


def moments(count):
    state = ObjectState("cup", PoseCloud.of(two_sided(0)), -10.0, 0.8)
    return [Moment(float(k), [dataclasses.replace(state, entropy=k)]) for k in range(count)]


def test_nothing_is_drawn_while_nobody_watches(viewer):
    for moment in moments(3):
        viewer.show(moment)
    assert not viewer.watched and viewer.drawn == 0
    assert viewer.url.startswith("http://127.0.0.1:")
    assert viewer._server.get_host() == "127.0.0.1"


def test_a_browser_cannot_open_a_tunnel(viewer):
    assert viewer._server.request_share_url() is None and viewer._server._share_tunnel is None


def test_stepping_back_pauses(viewer):
    panel = viewer._panel
    for moment in moments(3):
        viewer.history.add(moment)
    assert panel.moment().time == 2
    panel.step(-1)
    viewer.history.add(Moment(9.0, []))
    assert panel.moment().time == 1
    panel._pause.value = False
    assert panel.moment().time == 9


def test_the_panel_says_what_is_known(viewer):
    viewer.history.add(moments(1)[0])
    moment = dataclasses.replace(viewer._panel.moment(), latency=0.1234)
    objects = viewer._panel.chosen(moment)
    viewer._panel.describe(moment, objects)
    text = viewer._panel._status.content
    assert "| cup |" in text and "80%" in text and "latency 123 ms" in text
    assert "inference" not in text  # unknown
    viewer._panel._object.value = "cup"
    assert viewer._panel.chosen(Moment(0.0, [])) == []


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["nowhere/bag.mcap"], "no such file or folder"),
        (["models/demo_mug"], "name images after it"),
        (["docs"], "docs is not a bag"),
        (["models/demo_mug", "docs/mug.jpg", "--host", "203.0.113.1"], "cannot listen on host"),
    ],
)
def test_wrong_arguments_end_in_one_line(arguments, text, capsys, monkeypatch):
    monkeypatch.chdir(MESH.parents[2])
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert text in said and said.startswith("view: ") and said.count(os.linesep) == 1
