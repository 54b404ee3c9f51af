"""The demo's parts: what it shows, what it reads from messages, and how it judges."""

import json
import math
import re
import signal
import sys
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D

from spyropose_ros.core import so3_grid
from spyropose_ros.core.lens.calibration import calibrate
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.demo import __main__ as demo
from spyropose_ros.demo import camera, detector, figures, plan, processes, results, summary, table
from spyropose_ros.demo.frames import open_frames
from spyropose_ros.demo.received import ReceivedDistribution
from spyropose_ros.ros.messages.conversions import distribution_message, resampled_poses
from spyropose_ros.ros.pipeline.detections import Target
from spyropose_ros.scenes.mug import make_mug

HEADER = Header(frame_id=camera.FRAME_ID)
CENTER, DIAMETER = (0.01, 0.0, 0.05), 0.13
SHARP, HANDLE_HIDDEN = 0.0, 0.6  # spread of the angle about the mug's axis, radians


@pytest.fixture(scope="module")
def frames():
    return list(open_frames("mug", 30))


# ------------------------------------------------------------------------------- what it shows


def test_the_handle_comes_and_goes_while_the_mug_stays_in_view(frames):
    handle = np.array([frame.handle_fraction for frame in frames])
    assert (handle == 0).mean() > 0.25
    assert (handle >= results.HANDLE_VISIBLE).mean() > 0.35
    assert np.abs(np.diff(handle == 0)).sum() >= 4  # it is hidden more than once
    boxes = np.stack([frame.box for frame in frames])
    assert (boxes[:, :2] > 20).all() and (boxes[:, 2:] < [620, 460]).all()
    assert all(frame.visible_fraction > 0.99 for frame in frames)


def test_the_mug_moves_smoothly(frames):
    pairs = list(zip(frames, [*frames[1:], frames[0]], strict=True))  # the path is closed
    turns = [after.rotation @ before.rotation.T for before, after in pairs]
    steps = [after.translation - before.translation for before, after in pairs]
    assert np.degrees(Rotation.from_matrix(turns).magnitude()).max() < 50
    assert np.linalg.norm(steps, axis=1).max() < 0.05


def test_the_published_truth_is_where_the_mug_is_seen(frames):
    frame = frames[4]
    points = make_mug().mesh.vertices @ frame.rotation.T + frame.translation
    pixels = points @ frame.K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    outline = np.concatenate([pixels.min(0), pixels.max(0)])
    np.testing.assert_allclose(frame.box, outline, atol=1.0)
    left, top, right, bottom = frame.box.astype(int)
    inside = frame.image[top:bottom, left:right].reshape(-1, 3).astype(int)
    blue = (inside[:, 2] > inside[:, 0] + 20).mean()
    assert blue > 0.5
    assert (frame.image[:top, :, 2].astype(int) > frame.image[:top, :, 0] + 20).mean() < 0.01


def test_frames_repeat(frames):
    np.testing.assert_array_equal(frames[3].image, open_frames("mug", 30)[3].image)


def bop_scene(root, fractions):
    """A data set of grey photographs with object 9, and object 1, at these visible fractions."""
    scene = root / "lmo" / "test" / "000002"
    (scene / "rgb").mkdir(parents=True)
    truth, cameras, visible = {}, {}, {}
    for number, fraction in fractions.items():
        pose = {"cam_R_m2c": np.eye(3).ravel().tolist(), "cam_t_m2c": [0, 0, 800]}
        truth[number] = [{"obj_id": 9, **pose}, {"obj_id": 1, **pose}]
        cameras[number] = {"cam_K": [500, 0, 31.5, 0, 500, 23.5, 0, 0, 1]}
        seen = {"bbox_visib": [10, 10, 19, 14], "visib_fract": fraction, "px_count_visib": 50}
        visible[number] = [seen, seen | {"visib_fract": 1.0}]
        grey = np.full((48, 64, 3), int(number), np.uint8)
        cv2.imwrite(str(scene / "rgb" / f"{int(number):06d}.png"), grey)
    for name, content in (("gt", truth), ("camera", cameras), ("gt_info", visible)):
        (scene / f"scene_{name}.json").write_text(json.dumps(content))
    return root


def test_photographs_come_in_order_without_those_that_hide_the_object(tmp_path):
    root = bop_scene(tmp_path, {"12": 0.7, "3": 0.95, "100": 0.05, "40": 0.3})
    shown = list(open_frames("lmo/duck", data_root=root))
    assert [frame.name for frame in shown] == ["3", "12", "40"]
    assert [frame.visible_fraction for frame in shown] == [0.95, 0.7, 0.3]
    assert all(frame.handle_fraction is None for frame in shown)
    assert (shown[1].image == 12).all()
    np.testing.assert_allclose(shown[0].translation, [0, 0, 0.8])
    np.testing.assert_allclose(shown[0].box, [9.5, 9.5, 29.5, 24.5])
    assert [frame.name for frame in open_frames("lmo/duck", 2, root)] == ["3", "40"]


@pytest.fixture
def part(tmp_path):
    """The model of a red block of 200 mm, whose origin is a corner, in the folder of a run."""
    block = trimesh.creation.box((0.12, 0.1, 0.1))
    block.apply_translation([0.06, 0.05, 0.05])
    block.visual.vertex_colors = [200, 30, 30, 255]
    diameter = float(np.linalg.norm([0.12, 0.1, 0.1]))
    bundle = tmp_path / "runs" / "block" / "bundle"
    bundle.mkdir(parents=True)
    block.export(bundle / "mesh.ply")
    config = {
        "record": {"dataset": str(tmp_path / "set"), "object": "1"},
        "object": {"name": "my_block", "center": [0.06, 0.05, 0.05], "diameter": diameter},
    }
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def test_a_part_of_ones_own_is_played_like_the_mug(part, frames):
    model = plan.Model.read(part.parent)  # the run
    assert (model.directory, model.class_id, model.is_part) == (part, "my_block", True)
    settings = plan.parameters(model)
    shown = open_frames(settings["demo_camera"]["object"], 30)
    assert (len(shown), shown.class_id) == (30, "my_block")
    frame, mug = shown[4], frames[4]
    corners = trimesh.load(part / "mesh.ply").vertices @ frame.rotation.T + frame.translation
    pixels = corners @ frame.K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    np.testing.assert_allclose(frame.box, [*pixels.min(0), *pixels.max(0)], atol=1.0)
    # As many diameters away as the mug, and about as large in the image.
    size = np.ptp(frame.box.reshape(2, 2), axis=0).max()
    assert size == pytest.approx(np.ptp(mug.box.reshape(2, 2), axis=0).max(), rel=0.4)
    left, top, right, bottom = frame.box.astype(int)
    inside = frame.image[top:bottom, left:right].reshape(-1, 3).astype(int)
    assert (inside[:, 0] > 2 * inside[:, 1]).mean() > 0.5  # in its own colour
    message = camera.visible_message(HEADER, frame, shown.class_id)
    assert [r.hypothesis.class_id for r in message.detections[0].results] == ["my_block"]


def test_symmetries_of_a_part_are_those_of_its_data_set(part, tmp_path, capsys):
    data = plan.Model.read(part).data
    assert len(results.part_symmetries(*data)) == 1  # the data set is gone
    assert "are unknown, so it is judged without" in capsys.readouterr().out
    models = tmp_path / "set" / "models"
    models.mkdir(parents=True)
    half_turn = np.diag([-1.0, -1, 1, 1]).ravel().tolist()
    info = {"1": {"diameter": 185.0, "symmetries_discrete": [half_turn]}}
    (models / "models_info.json").write_text(json.dumps(info))
    results.part_symmetries.cache_clear()
    found = results.part_symmetries(*data)
    assert sorted(np.trace(rotation) for rotation in found) == [-1, 3]


def test_a_part_without_mesh_cannot_be_played(part):
    (part / "mesh.ply").unlink()
    with pytest.raises(ValueError, match="has no mesh.ply to show"):
        plan.Model.read(part)


def test_a_part_is_judged_by_all_images_where_none_hides_it(part):
    model = plan.Model.read(part)
    card = {"rotation_median_deg": 4.0, "lateral_median_m": 0.001, "coverage": {"0.9": 0.9}}
    model.report.write_text(json.dumps({"metrics": {"all": card}}))
    checks = results.verdict([replace(GOOD, handle_fraction=None)], [1.0], model, True)
    assert len(checks) == 4 and all(check.passed for check in checks)


def test_unknown_objects_and_missing_photographs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'teapot': choose from mug, lmo/ape"):
        open_frames("teapot")
    with pytest.raises(FileNotFoundError, match="training.download lmo"):
        open_frames("lmo/duck", data_root=tmp_path)
    with pytest.raises(ValueError, match="number of frames is -1"):
        open_frames("mug", -1)
    with pytest.raises(ValueError, match="no photograph that shows object 5"):
        open_frames("lmo/can", data_root=bop_scene(tmp_path, {"12": 0.7}))


def test_camera_info_gives_the_intrinsics_back(frames):
    message = camera.camera_info(frames[0].K, 640, 480)
    calibration = calibrate(message, 640, 480)
    np.testing.assert_array_equal(calibration.K, frames[0].K)
    assert calibration.warnings == ()


def corners(message: Detection2D):
    place, half = message.bbox.center.position, np.array([message.bbox.size_x, message.bbox.size_y])
    return np.concatenate([[place.x, place.y] - half / 2, [place.x, place.y] + half / 2])


def test_the_detector_is_inexact_and_repeats(frames):
    frame = frames[2]
    (exact,) = camera.visible_message(HEADER, frame, "mug").detections
    np.testing.assert_allclose(corners(exact), frame.box)
    noisy = detector.noisy(HEADER, exact, seed=1)
    assert (noisy.id, noisy.results[0].hypothesis.class_id) == ("2", "mug")
    assert len(noisy.results) == 1  # what the camera says of the handle stays hidden
    again, other = detector.noisy(HEADER, exact, 1), detector.noisy(HEADER, exact, 2)
    np.testing.assert_array_equal(corners(noisy), corners(again))
    size = frame.box[2:] - frame.box[:2]
    for message in (noisy, other):
        error = np.abs(corners(message) - frame.box) / np.tile(size, 2)
        assert 0 < error.max() < 0.5
    assert not np.array_equal(corners(noisy), corners(other))


# ------------------------------------------------------------------- what it reads from messages


def estimate(frame, axis_spread, noise=0.0):
    """Distribution around a frame's truth, with the angle about z known up to a spread."""
    rotation = torch.tensor(frame.rotation).float()
    rotation = torch.tensor(Rotation.from_rotvec([noise, 0, 0]).as_matrix()).float() @ rotation
    middle = torch.tensor(frame.translation).float() + rotation @ torch.tensor(CENTER)

    def score(level, rotations, translations):
        width = max(0.04, 0.5 * so3_grid.cell_radius(level))
        relative = rotation.mT @ rotations
        tilt = torch.acos(relative[..., 2, 2].clamp(-1, 1))
        twist = torch.atan2(
            relative[..., 1, 0] - relative[..., 0, 1], relative[..., 0, 0] + relative[..., 1, 1]
        )
        loose = max(axis_spread, width)
        distance = (translations - middle).square().sum(-1)
        return -0.5 * ((tilt / width) ** 2 + (twist / loose) ** 2 + distance / 0.01**2)

    box = TranslationBox.from_view(middle[None], DIAMETER)
    return search(score, box, 5, 256, 0.01).distribution(0, torch.tensor(CENTER), DIAMETER)


def receive(distribution, count=1024):
    target = Target("mug", "mug", "0", 0.9, (0.0, 0.0, 1.0, 1.0))
    message = distribution_message(distribution, HEADER, target, count, "demo", 0.25)
    return ReceivedDistribution(message, resampled_poses([distribution], HEADER, count))


@pytest.mark.parametrize("spread", [SHARP, HANDLE_HIDDEN])
def test_a_subscriber_finds_what_the_estimator_knew(frames, spread):
    distribution = estimate(frames[0], spread)
    received = receive(distribution)
    for ours, theirs in zip(received.mode(), distribution.mode(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for ours, theirs in zip(received.modes(), distribution.modes(), strict=True):
        torch.testing.assert_close(ours.rotation, theirs.rotation, atol=1e-5, rtol=0)
        assert ours.mass == pytest.approx(theirs.mass)
    exact = distribution.entropy_about_axis(torch.tensor([0.0, 0.0, 1.0]))
    assert received.entropy_about_axis((0.0, 0.0, 1.0)) == pytest.approx(exact, abs=0.12)
    angle = distribution.rotation_spread()
    assert received.rotation_spread() == pytest.approx(angle, rel=0.1)
    rotations, translations = received.sample(3000, torch.Generator().manual_seed(1))
    assert rotations.shape == (3000, 3, 3)
    torch.testing.assert_close(translations.mean(0), distribution.mean()[1], atol=2e-3, rtol=0)


def test_centrality_is_uniform_for_rotations_of_the_distribution_itself(frames):
    distribution = estimate(frames[0], HANDLE_HIDDEN)
    received = receive(distribution, 512)
    truths, _ = distribution.sample(200, torch.Generator().manual_seed(2))
    places = np.sort([received.centrality(truth.numpy()) for truth in truths])
    deviation = np.abs(places - (np.arange(200) + 0.5) / 200).max()
    assert deviation < 1.63 / math.sqrt(200)  # Kolmogorov-Smirnov at 1 %
    assert received.centrality(np.diag([1.0, -1, -1]) @ frames[0].rotation) == 1.0


def test_a_message_without_poses_is_refused(frames):
    message = distribution_message(
        estimate(frames[0], SHARP), HEADER, Target("mug", "mug", "0", 1.0, ()), 4, "demo", 0.1
    )
    drawn = resampled_poses([estimate(frames[0], SHARP)], HEADER, 4)
    message.log_densities = []
    with pytest.raises(ValueError, match="no log densities"):
        ReceivedDistribution(message, drawn)


@pytest.fixture
def model(tmp_path):
    return write_bundle(tmp_path / "bundle", "mug")


def write_bundle(directory, object_name, card=None):
    """The parts of a bundle that the demo itself reads."""
    directory.mkdir()
    config = {
        "record": {"object": object_name},
        "object": {"center": list(CENTER), "diameter": DIAMETER},
    }
    (directory / "config.json").write_text(json.dumps(config))
    model = plan.Model.read(directory)
    if card is not None:
        model.report.write_text(json.dumps({"metrics": card}))
    return model


def test_errors_are_those_of_the_most_probable_pose(frames, model):
    frame = frames[0]
    received = receive(estimate(frame, SHARP, noise=0.2))
    visible = camera.visible_message(HEADER, frame, "mug")
    truth = frame.rotation, frame.translation
    result = summary.frame_result(received, truth, visible, 0.5, model)
    assert result.rotation_error == pytest.approx(math.degrees(0.2), abs=4)
    assert result.best_mode_error == pytest.approx(math.degrees(0.2), abs=4)
    # The turn of the estimate about the camera's x moves the mug's centre by 0.2 |CENTER| at most.
    assert result.sideways_error < 0.25 * np.linalg.norm(CENTER) + 0.005
    assert result.inference == pytest.approx(0.25)
    assert result.handle_fraction == frame.handle_fraction
    assert result.is_clear and not result.is_hidden
    assert result.centrality > 0.9
    right = summary.frame_result(receive(estimate(frame, SHARP)), truth, visible, 0.5, model)
    assert right.rotation_error < 4 and right.centrality < 0.9


def test_equivalent_rotations_are_no_error_for_symmetric_objects(frames, tmp_path):
    received = receive(estimate(frames[0], SHARP))
    turned = frames[0].rotation @ np.diag([-1.0, -1, 1]), frames[0].translation
    errors = {}
    for name in ("glue", "duck"):
        model = write_bundle(tmp_path / name, f"lmo/{name}")
        errors[name] = results.pose_errors(received, *turned, model)["rotation_error"]
    assert errors["glue"] < 4 and errors["duck"] > 170


# ----------------------------------------------------------------------------------- how it judges

CARD = {
    "all": {"coverage": {"0.9": 0.9}},
    "handle visible (>= 5 %)": {
        "rotation_median_deg": 4.0,
        "lateral_median_m": 0.002,
        "axis_entropy_mean": -1.5,
    },
    "handle hidden": {"axis_entropy_mean": 0.5},
}
GOOD = results.FrameResult(
    "0", 1.0, 0.1, 0.7, 0.6, 1, -18.0, -1.5, 4.0, 5.0, 5.0, 0.002, 0.01, 0.5, 0.3,
    (250.0, 160.0, 330.0, 260.0),
)  # fmt: skip
HIDDEN = replace(GOOD, handle_fraction=0.0, axis_entropy=0.4)
RUN = [GOOD] * 6 + [HIDDEN] * 4


def failures(run, published, model):
    checks = results.verdict(run, [1.0] * published, model, annotated=True)
    return [check.text for check in checks if not check.passed]


def test_a_poor_card_lets_no_guesses_pass(part):
    model = plan.Model.read(part)
    card = {"rotation_median_deg": 90.0, "lateral_median_m": 0.9, "coverage": {"0.9": 0.1}}
    model.report.write_text(json.dumps({"metrics": {"all": card}}))
    guess = replace(GOOD, handle_fraction=None, rotation_error=126.0, sideways_error=0.9)
    checks = results.verdict([replace(guess, centrality=0.95)], [1.0], model, True)
    assert [check.passed for check in checks] == [True, False, False, False]
    limit = float(re.search(r"<= ([\d.]+)", checks[1].text)[1])
    equivalent = results._known_symmetries(model)
    guesses = [
        results._angle(r, equivalent) for r in Rotation.random(4000, random_state=1).as_matrix()
    ]
    assert limit == pytest.approx(np.median(guesses) / 2, rel=0.1)


@pytest.mark.parametrize(
    "run, published, failure",
    [
        (RUN, 10, None),
        (RUN, 11, None),
        (RUN, 12, r"10 of 12 frames"),
        ([replace(GOOD, rotation_error=7.9), *RUN], 11, None),
        ([replace(r, rotation_error=8.1) for r in RUN], 10, r"rotation error 8.1 .* <= 8.0"),
        ([replace(r, sideways_error=0.0051) for r in RUN], 10, r"sideways error 5.1 .* <= 5.0"),
        ([replace(r, centrality=0.95) for r in RUN[:3]] + RUN[3:], 10, r"in 70% .*>= 75%"),
        ([replace(r, axis_entropy=-0.8) for r in RUN], 10, r"by -?0.00 nats \(>= 1.00\)"),
        ([GOOD] * 10, 10, "no frame with a hidden handle"),
        ([HIDDEN] * 10, 10, "no frame with handle visible"),
        ([], 10, "0 of 10 frames"),
    ],
)
def test_the_rule(tmp_path, run, published, failure):
    failed = failures(run, published, write_bundle(tmp_path / "bundle", "mug", CARD))
    if failure is None:
        assert failed == []
    else:
        assert re.search(failure, failed[0])
        assert len(failed) == 1 or not run


def test_the_rule_for_photographs_compares_the_visible_ones(tmp_path):
    card = {"all": CARD["all"], "visible >= 0.9": CARD["handle visible (>= 5 %)"]}
    model = write_bundle(tmp_path / "bundle", "lmo/duck", card)
    seen = replace(GOOD, handle_fraction=None, visible_fraction=0.95)
    covered = replace(seen, visible_fraction=0.3, rotation_error=90.0)
    assert failures([seen] * 5 + [covered] * 5, 10, model) == []
    assert re.search(
        "rotation error 20", failures([replace(seen, rotation_error=20.0)], 1, model)[0]
    )


def test_the_rule_for_photographs_counts_what_a_detector_misses(tmp_path):
    card = {"all": CARD["all"], "visible >= 0.9": CARD["handle visible (>= 5 %)"]}
    model = write_bundle(tmp_path / "bundle", "lmo/duck", card)
    seen = replace(GOOD, handle_fraction=None, visible_fraction=0.95)
    published = [0.95] * 5 + [0.4] * 5  # the hidden ones may be missed
    assert results.verdict([seen] * 4, published, model, False)[0].passed
    missed = results.verdict([seen] * 3, published, model, False)[0]
    assert not missed.passed
    assert missed.text == (
        "distributions for 3 of 5 frames that show half of the object or more (60%; >= 80 %), "
        "for 3 of all 10"
    )
    assert not results.verdict([seen] * 4, published, model, True)[0].passed


def test_boxes_are_those_of_the_models_detector_if_it_has_one(model, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "share_folder", lambda: tmp_path / "share")
    assert plan.box_source(model, plan.OWN) == plan.ANNOTATIONS
    settings = plan.parameters(model)
    assert set(settings) == {"estimator", "demo_camera", "demo_detector", "demo_summary"}
    assert settings["estimator"]["detector"] == "topic" and settings["demo_camera"]["detections"]
    (model.directory / "detector.json").touch()
    settings = plan.parameters(model)
    assert set(settings) == {"estimator", "demo_camera", "demo_summary"}
    assert settings["estimator"]["detector"] == str(model.directory)
    assert not settings["demo_camera"]["detections"]
    assert set(plan.parameters(model, detector="annotations")) > {"demo_detector"}
    given = plan.parameters(model, detector="some/where")
    assert given["estimator"]["detector"] == given["demo_summary"]["detector"] == "some/where"


def test_photographs_have_one_detector_for_all_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "share_folder", lambda: tmp_path)
    model = write_bundle(tmp_path / "bundle", "lmo/duck")
    assert model.detector is None
    shared = tmp_path / "models" / "lmo_detector"
    shared.mkdir(parents=True)
    (shared / "detector.json").touch()
    assert model.detector == shared
    assert write_bundle(tmp_path / "mug", "mug").detector is None
    (model.directory / "detector.json").touch()
    assert model.detector == model.directory


def test_every_demo_has_a_folder_of_its_own(part, tmp_path):
    folders = [
        plan.parameters(model)["demo_summary"]["output"]
        for model in (
            write_bundle(tmp_path / "a", "mug"),
            write_bundle(tmp_path / "b", "lmo/duck"),
            plan.Model.read(part),
        )
    ]
    assert folders == ["demo_output/mug", "demo_output/lmo", "demo_output/my_block"]


@pytest.mark.parametrize("content", [None, "{", "{}", '{"metrics": {"all": {}}}'])
def test_without_a_card_nothing_passes(model, content):
    if content is not None:
        model.report.write_text(content)
    (failed,) = failures(RUN, 10, model)
    assert str(model.report) in failed and "./run evaluate" in failed


# ------------------------------------------------------------------------------------ what it says


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("has_handle", [True, False])
def test_the_table_fits_the_terminal(has_handle, unicode):
    extreme = replace(
        GOOD, frame="1212", latency=99.999, entropy=-21.4, rotation_error=179.9, spread=127.9,
        best_mode_error=None, depth_error=0.5, handle_fraction=0.004 if has_handle else None,
    )  # fmt: skip
    lines = table.header(has_handle, not has_handle, unicode).splitlines()
    lines += [table.row(result, unicode) for result in (GOOD, HIDDEN, extreme)]
    assert max(map(len, lines)) <= 100
    assert unicode or "".join(lines).isascii()
    titles, row = lines[-5], lines[-3]
    assert titles.split()[0] == ("frame" if has_handle else "photo")
    assert row.split()[:3] == ["0", "10" if has_handle else "10", "700"]
    assert [len(table.bar(share, unicode)) for share in (0.0, 1.0, 9.0)] == [0, 12, 12]


def shots(frames):
    found = []
    for index in (0, 8):
        frame = frames[index]
        received = receive(estimate(frame, HANDLE_HIDDEN if index else SHARP), 256)
        result = replace(HIDDEN if index else GOOD, frame=frame.name, box=tuple(frame.box))
        truth = frame.rotation, frame.translation
        found.append(figures.Shot(frame.image, frame.K, received, truth, result))
    return found


def test_pictures_are_written(frames, model, tmp_path):
    make_mug().mesh.export(model.mesh)
    points = figures.surface_points(model, tmp_path)
    assert points.shape == (1500, 3) and np.ptp(points, axis=0).max() < 0.13
    still, moving = figures.write(tmp_path, shots(frames), [], model, points)
    with Image.open(still) as image:
        assert image.size == (1860, 2120)
        assert np.asarray(image.convert("L")).std() > 20
    with Image.open(moving) as image:
        assert image.n_frames == 2
        assert image.size == (941, 400)
    assert moving.stat().st_size < 200_000


def test_a_close_up_shows_the_object_in_the_middle(frames, model):
    shot = shots(frames)[0]
    plain = replace(shot, truth=(shot.truth[0], shot.truth[1] + [0, 0, 1000.0]))
    picture = figures.close_up(plain, model, None, 240).astype(int)
    box, scale = np.array(shot.result.box), 240 / (2.2 * 100)
    rows, columns = np.nonzero(picture[..., 2] > picture[..., 0] + 30)
    assert abs(np.median(columns) - 119.5) < 0.3 * scale * (box[2] - box[0])
    assert abs(np.median(rows) - 119.5) < 0.3 * scale * (box[3] - box[1])


# ---------------------------------------------------------------------------------- how it is run


def test_help_states_the_rule(capsys):
    with pytest.raises(SystemExit, match="0"):
        demo.main(["--help"])
    assert plan.RULE in capsys.readouterr().out


def test_a_missing_or_damaged_model_is_named_with_its_remedy(tmp_path, capsys):
    assert demo.main(["--model", str(tmp_path / "none"), "--output", str(tmp_path)]) == 1
    assert re.search(r"no model in \S*none .*folder of a run", capsys.readouterr().err)
    (tmp_path / "config.json").write_text("{}")
    assert demo.main(["--model", str(tmp_path), "--output", str(tmp_path)]) == 1
    assert re.search(r"config.json is damaged .*export the model again", capsys.readouterr().err)


def test_a_package_without_the_model_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "share_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="./run train"):
        plan.shipped_model("lmo")
    for name in ("demo_lmo_duck", "demo_mug"):
        (tmp_path / "models" / name).mkdir(parents=True)
    assert plan.shipped_model("lmo").name == "demo_lmo_duck"
    assert plan.shipped_model("mug").name == "demo_mug"


def start(tmp_path, code):
    return processes.Process("tool", [sys.executable, "-c", code], tmp_path / "tool.log")


def wait_for_log(process, text):
    while text not in process.log.read_text():
        assert process.exit_code is None


def test_the_end_of_a_process_is_described_with_its_last_words(tmp_path):
    code = "print(*range(50), sep='\\n', flush=True); raise SystemExit('no camera')"
    process = start(tmp_path, code)
    while process.exit_code is None:
        time.sleep(0.01)
    text = process.describe_end(lines=3)
    assert "tool ended too early (exit code 1)" in text
    assert text.endswith(":\n  | 48\n  | 49\n  | no camera")


def test_processes_end_by_interrupt_or_else_by_force(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE", 0.5)
    stubborn = start(
        tmp_path,
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "print('ready', flush=True); time.sleep(60)",
    )
    wait_for_log(stubborn, "ready")
    processes.stop_all([stubborn])
    assert stubborn.exit_code == -signal.SIGKILL
    assert "signal 9, perhaps out of memory" in stubborn.describe_end()


def test_ros_parameters_survive_the_command_line():
    command = processes.python_command("some.module", {"objects": ["/a b/c"], "qos.x": "y", "n": 3})
    assert command[1:] == [
        "-m", "some.module", "--ros-args",
        "-p", 'objects:=["/a b/c"]', "-p", 'qos.x:="y"', "-p", "n:=3",
    ]  # fmt: skip


@pytest.mark.parametrize("demo, name", [("mug", "mug"), ("lmo", "lmo/duck")])
def test_the_shipped_models_belong_to_their_demos(demo, name):
    assert plan.Model.read(plan.shipped_model(demo)).object_name == name
