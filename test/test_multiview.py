"""Evaluation on several views: groups, camera motion, and a report from a real small scene."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spyropose_ros.bop import BopFrame, BopInstance
from spyropose_ros.core.bundle import ModelBundle, ObjectInfo
from training.data.bop import BopSource
from training.evaluate_multiview import evaluate_multiview, tracks, view_groups

sys.path.append(str(Path(__file__).parent))  # for bop_files.py
import bop_files
from bop_files import BLOCK, CAN


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two test scenes: seven images and two."""
    root = tmp_path_factory.mktemp("data") / "bop" / "toy"
    bop_files.write_models(root)
    bop_files.write_scene(root / "test" / "000001", 1, n=7)
    bop_files.write_scene(root / "test" / "000004", 2, n=2)
    # The can is hidden in one image of the first scene.
    path = root / "test" / "000001" / "scene_gt_info.json"
    bop_files.change(path, lambda info: info["30"][1].update(visib_fract=0.05))
    return root


def transform(rotation, translation):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return pose


def test_groups_are_those_of_the_permutation(root):
    groups = list(view_groups(BopSource(root, CAN), "test", seed=1, views=3))
    ids = [[(v.sample.scene_id, v.sample.image_id) for v in group] for group in groups]
    expected = []
    for scene, n in ((1, 7), (4, 2)):
        order = [10 * int(i) for i in np.random.RandomState(0).permutation(n)]
        for start in range(0, n, 3):
            group = [(scene, image) for image in order[start : start + 3]]
            expected.append([view for view in group if view != (1, 30)])
    assert ids == [group for group in expected if group]
    assert {len(group) for group in ids} == {1, 2, 3}


def test_cameras_carry_the_pose_from_view_to_view(root):
    for group in view_groups(BopSource(root, BLOCK), "test", seed=1, views=4):
        first = group[0].sample
        np.testing.assert_allclose(group[0].world_from_camera, np.eye(4), atol=1e-12)
        for view in group:
            here = transform(view.sample.rotation, view.sample.translation)
            np.testing.assert_allclose(
                view.world_from_camera @ here,
                transform(first.rotation, first.translation),
                atol=1e-12,
            )


def test_instances_are_matched_where_annotations_are_left_out():
    def frame(*object_ids):
        pose = np.eye(3), np.zeros(3)
        instances = [BopInstance(i, number, *pose, None) for i, number in enumerate(object_ids)]
        return BopFrame(0, 0, Path(), Path(), np.eye(3), instances)

    assert tracks(frame(3, 5, 3, 3)) == {0: (3, 0), 1: (5, 0), 2: (3, 1), 3: (3, 2)}
    assert tracks(frame(5, 3)) == {0: (5, 0), 1: (3, 0)}


@pytest.fixture
def bundle(root, tiny_bundle, tmp_path):
    """An untrained model of the block."""
    source = BopSource(root, BLOCK)
    info = replace(tiny_bundle.object, center=source.center.tolist(), diameter=source.diameter)
    record = {"dataset": str(root), "object": str(BLOCK), "config": {}}
    ModelBundle(tiny_bundle.model, info, [0.05] * 3, record).save_pretrained(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_report_shows_groups_beside_their_views(bundle, tmp_path):
    options = {"views": 4, "beam": 16, "depth": 2}
    report = evaluate_multiview(str(bundle), **options)
    assert report == json.loads((bundle / "report_test_4views_sum.json").read_text())
    assert report["groups"] == 3  # four and three images, and two
    assert report["metrics"].keys() == {"4 views", "single views"}
    fused, single = report["metrics"].values()
    assert fused["images"] == single["images"] == 9
    assert fused["ll_of_uniform_pi2"] == pytest.approx(single["ll_of_uniform_pi2"])  # cubes alike
    assert fused["inside_box"] == single["inside_box"] == 1
    assert fused["ll_uniform_zero"][0] != single["ll_uniform_zero"][0]
    # A group counts once for each of its views.
    lines = (bundle / "report_test_4views_sum.records.jsonl").read_text().splitlines()[1:]
    records = [json.loads(line) for line in lines]
    weights = [len(record["single"]) for record in records]
    gains = [record["fused"]["gain_per_level"][-1] for record in records]
    assert sorted(weights) == [2, 3, 4]
    mean, error = fused["ll_uniform_zero"]
    assert mean == pytest.approx(np.average(gains, weights=weights))
    # Copies of one answer tell nothing new.
    moments = [(weight * (gain - mean)) ** 2 for weight, gain in zip(weights, gains, strict=True)]
    assert error == pytest.approx((3 / 2 * sum(moments)) ** 0.5 / 9)
    # Again, resumed after one group, elsewhere: the same bytes.
    evaluate_multiview(str(bundle), limit=1, output=str(tmp_path / "b"), **options)
    evaluate_multiview(str(bundle), output=str(tmp_path / "b"), **options)
    name = "report_test_4views_sum.json"
    assert (tmp_path / "b" / name).read_bytes() == (bundle / name).read_bytes()


def test_one_view_alone_is_the_single_view(bundle, tmp_path):
    """Sum, mean and the single search agree where a group has one view."""
    for fusion in ("sum", "mean"):
        report = evaluate_multiview(
            str(bundle), views=1, fusion=fusion, beam=16, depth=2, limit=2, output=str(tmp_path)
        )
        fused, single = report["metrics"].values()
        assert fused["ll_pi2"] == pytest.approx(single["ll_pi2"], abs=1e-4)


def test_data_without_scenes_are_refused(tiny_bundle, tmp_path):
    record = {"dataset": "shapes", "object": "cube", "config": {}}
    info = ObjectInfo("cube", [0.0] * 3, 1.0, 1.0, 0.1, tiny_bundle.object.keypoints)
    model = ModelBundle(tiny_bundle.model, info, [1.0] * 3, record)
    model.save_pretrained(tmp_path / "cube")
    with pytest.raises(ValueError, match="no scene in split 'test'"):
        evaluate_multiview(str(tmp_path / "cube"))
