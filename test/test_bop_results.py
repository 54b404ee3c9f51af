"""The results file of the BOP challenge."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spyropose_ros.bop.results import BopEstimate, read_results, with_image_times, write_results


@pytest.fixture
def estimates():
    rotations = Rotation.random(3, random_state=0).as_matrix()
    translations = np.random.default_rng(0).normal(size=(3, 3))
    places = ((2, 3), (2, 3), (7, 12))
    return [
        BopEstimate(scene, image, 9, 0.1 * i, rotations[i], translations[i], 0.25 + scene)
        for i, (scene, image) in enumerate(places)
    ]


def test_lines_are_in_millimetres_and_in_the_order_of_the_format(tmp_path):
    path = tmp_path / "ours_lmo-test.csv"
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    write_results(path, [BopEstimate(2, 17, 9, 0.5, turn, np.array([0.125, -0.25, 1.5]))])
    assert path.read_text() == (
        "scene_id,im_id,obj_id,score,R,t,time\n"
        "2,17,9,0.5,0.0 -1.0 0.0 1.0 0.0 0.0 0.0 0.0 1.0,125.0 -250.0 1500.0,-1.0\n"
    )


def test_reading_gives_back_what_was_written(tmp_path, estimates):
    path = tmp_path / "results.csv"
    write_results(path, estimates)
    for read, written in zip(read_results(path), estimates, strict=True):
        assert (read.scene_id, read.image_id, read.object_id) == (
            written.scene_id, written.image_id, written.object_id,
        )  # fmt: skip
        assert (read.score, read.seconds) == (written.score, written.seconds)
        np.testing.assert_array_equal(read.rotation, written.rotation)
        np.testing.assert_allclose(read.translation, written.translation, rtol=1e-15)


def test_times_of_an_image_must_agree_and_can_be_summed(tmp_path, estimates):
    estimates[1] = replace(estimates[1], seconds=0.5)
    with pytest.raises(ValueError, match="scene 2, image 3 has the times 2.25 and 0.5"):
        write_results(tmp_path / "results.csv", estimates)
    assert [e.seconds for e in with_image_times(estimates)] == [2.75, 2.75, 7.25]
    estimates[0] = replace(estimates[0], seconds=-1.0)
    assert [e.seconds for e in with_image_times(estimates)] == [-1, -1, 7.25]
    write_results(tmp_path / "results.csv", with_image_times(estimates))


def test_what_is_no_pose_is_refused(tmp_path, estimates):
    path = tmp_path / "results.csv"
    with pytest.raises(ValueError, match="no rotation"):
        write_results(path, [replace(estimates[0], rotation=np.diag([1.0, 1, -1]))])
    with pytest.raises(ValueError, match="not finite"):
        write_results(path, [replace(estimates[0], translation=np.full(3, np.nan))])
    assert not path.exists()


def test_damaged_files_are_named_with_the_line(tmp_path, estimates):
    path = tmp_path / "results.csv"
    write_results(path, estimates)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "2,3,9,0.5,1 0 0,0 0 1,-1"]))
    with pytest.raises(ValueError, match="results.csv, line 3"):
        read_results(path)
    path.write_text("\n".join(lines[1:]))
    with pytest.raises(ValueError, match="first line"):
        read_results(path)
