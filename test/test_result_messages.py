"""A result becomes the messages that are asked for, in order, and each says what it should."""

import math

import numpy as np
import pytest
import torch

from result_tools import MODELS, SHOWN, result_of, two_sided, uniform, view_of
from spyropose_ros.ros.interfaces import Image, Marker
from spyropose_ros.ros.messages import figures
from spyropose_ros.ros.messages.invariants import check_invariants
from spyropose_ros.ros.messages.result_messages import TOPICS, messages
from spyropose_ros.ros.messages.tf_poses import TransformChooser
from spyropose_ros.ros.pipeline.drops import BadInputError
from spyropose_ros.ros.pipeline.parameters import OutputParameters, Parameters


@pytest.fixture(scope="module")
def distributions():
    return two_sided(0), two_sided(1)


def made(result, parameters=SHOWN, chooser=None, wanted=TOPICS):
    chooser = chooser or TransformChooser()
    return dict(messages(result, MODELS, parameters, chooser, set(wanted).__contains__))


def test_every_topic_has_its_message_with_the_header_of_the_result(distributions):
    result = result_of(*distributions)
    found = made(result)
    assert list(found) == list(TOPICS)
    assert {topic: type(message) for topic, message in found.items()} == TOPICS
    for topic, message in found.items():
        if hasattr(message, "header"):
            assert message.header == result.header, topic
    assert [t.header for t in found["/tf"].transforms] == 2 * [result.header]
    assert {m.header.frame_id for m in found["~/markers"].markers} == {"camera"}


def test_the_distributions_are_those_of_the_targets(distributions):
    found = made(result_of(*distributions))["~/distributions"].distributions
    assert [(d.detection_id, d.class_id, d.model_id) for d in found] == [
        ("0", "cup", "demo_mug"),
        ("1", "cup", "demo_mug"),
    ]
    for message in found:
        check_invariants(message)
        assert message.inference_time.nanosec == 250_000_000


def test_all_topics_tell_the_same_modes(distributions):
    found = made(result_of(distributions[0]))
    (distribution,) = found["~/distributions"].distributions
    (detection,) = found["detections_3d"].detections
    leading = distribution.modes[0]
    assert detection.results[0].pose.pose == found["~/pose"].pose.pose == leading.pose
    (transform,) = found["/tf"].transforms
    turns = [[q.x, q.y, q.z, q.w] for q in (transform.transform.rotation, leading.pose.orientation)]
    np.testing.assert_allclose(*turns, atol=1e-12)
    assert transform.transform.translation.z == leading.pose.position.z


def test_only_what_is_wanted_is_made(distributions, monkeypatch):
    monkeypatch.setattr(figures, "overlay", lambda *_: pytest.fail("an overlay was drawn"))
    monkeypatch.setattr(figures, "rotation_maps", lambda *_: pytest.fail("maps were drawn"))
    wanted = {"~/distributions", "~/poses"}
    assert set(made(result_of(*distributions), wanted=wanted)) == wanted


def test_without_objects_arrays_are_empty_and_the_rest_is_absent():
    found = made(result_of())
    arrays = {"~/distributions", "detections_3d", "~/poses", "~/markers", "~/marginals"}
    assert set(found) == arrays | {"~/overlay"}
    assert found["~/distributions"].distributions == []
    assert found["detections_3d"].detections == []


def test_parameters_decide_what_is_shown(distributions):
    result = result_of(*distributions)
    assert len(made(result)["~/poses"].poses) == 2 * 50
    assert "/tf" not in made(result, Parameters())
    sure = Parameters(output=OutputParameters(min_mass=0.9, max_modes=1, mesh=False))
    found = made(result, sure)
    assert "~/pose" not in found
    assert [len(d.results) for d in found["detections_3d"].detections] == [1, 1]
    drawn = {(m.ns, m.type) for m in found["~/markers"].markers[1:]}
    assert ("poses", Marker.LINE_LIST) in drawn and ("poses", Marker.MESH_RESOURCE) not in drawn


def test_tf_stays_on_its_mode_while_the_leading_mode_changes(distributions):
    chooser = TransformChooser()
    first = made(result_of(distributions[0], seconds=1), chooser=chooser)
    second = made(result_of(distributions[1], seconds=2), chooser=chooser)
    (before,), (after,) = first["/tf"].transforms, second["/tf"].transforms
    assert angle_between(before.transform.rotation, after.transform.rotation) < 0.2
    poses = [found["~/pose"].pose.pose.orientation for found in (first, second)]
    assert angle_between(*poses) > 3  # the leading mode did change


def angle_between(a, b):
    dot = a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w
    return 2 * math.acos(min(1.0, abs(dot)))


def test_tf_needs_a_frame_and_no_leading_slash(distributions):
    assert "/tf" not in made(result_of(distributions[0], frame_id=""))
    (transform,) = made(result_of(distributions[0], frame_id="/camera"))["/tf"].transforms
    assert (transform.header.frame_id, transform.child_frame_id) == ("camera", "mug")


def test_a_broken_distribution_stops_all_before_the_first_message(distributions):
    broken = two_sided(0)
    broken._log_p[7] = torch.nan
    with pytest.raises(BadInputError, match="not finite"):
        next(messages(result_of(distributions[0], broken), MODELS, SHOWN, TransformChooser()))


# ---- pictures --------------------------------------------------------------------------------


def drawn(rgb):
    """Where something was drawn: [n, 2] rows and columns."""
    return np.argwhere((rgb != 90).any(-1) & (rgb != 0).any(-1))


def test_views_stand_one_below_the_other(distributions):
    views = [view_of(width=160), view_of(width=120, height=100)]
    image = made(result_of(distributions[0], views=views))["~/overlay"]
    assert isinstance(image, Image)
    assert (image.height, image.width, image.encoding) == (220, 160, "rgb8")
    rgb = np.asarray(image.data, np.uint8).reshape(220, 160, 3)
    assert (rgb[120:, 120:] == 0).all()
    assert len(drawn(rgb[:120])) > 50 and len(drawn(rgb[120:])) > 50


def test_each_view_is_drawn_from_its_camera(distributions):
    to_the_right = np.eye(4)  # the object appears 0.16 m = 40 pixels to the right
    to_the_right[0, 3] = 0.16
    upper, lower = np.split(
        figures.overlay(
            result_of(distributions[0], views=[view_of(), view_of(to_the_right)]), [0.12]
        ),
        2,
    )
    assert np.median(drawn(upper)[:, 1]) == pytest.approx(79.5, abs=6)
    assert np.median(drawn(lower)[:, 1]) == pytest.approx(119.5, abs=8)


def test_a_camera_that_is_turned_sees_the_object_turned(distributions):
    quarter = np.eye(4)
    quarter[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]  # about the optical axis
    same, turned = (
        figures.overlay(result_of(distributions[0], views=[view_of(pose)]), [0.12])
        for pose in (np.eye(4), quarter)
    )
    np.testing.assert_array_equal(same, figures.overlay(result_of(distributions[0]), [0.12]))
    assert (same != turned).any()


def test_rotation_maps_stand_one_below_the_other(distributions):
    image = made(result_of(*distributions))["~/rotations"]
    assert (image.width, image.height) == (480, 640)


def test_the_least_certain_objects_are_shown_by_fans_of_meshes(distributions):
    sharp, unsure = distributions[0], uniform()
    found = made(result_of(sharp, unsure, sharp, unsure))["~/markers"].markers
    poses = [m.pose.position.z for m in found if m.ns == "poses"]
    modes = len(sharp.modes())
    assert len(poses) > 2 * modes + 20
