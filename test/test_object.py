"""One command for a part: units, facts of the mesh, plan, ledger, confusions and the page."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from spyropose_ros.core.errors import DataError, InputError, MissingFileError
from training.evaluation.report import find_reports
from training.generate.cad import load_cad
from training.generate.symmetry import symmetry_of
from training.object.confusion import confusions
from training.object.figures import POSE_CURVES, detections, training_curves
from training.object.layout import Layout
from training.object.ledger import Ledger
from training.object.mesh_facts import fact_lines, mesh_facts, unit_of
from training.object.page import Picture, Section, render
from training.object.plan import Plan, Settings
from training.runs import PART

ROOT = Path(__file__).parent.parent
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def cad(tmp_path):
    path = tmp_path / "Träger 2.stl"
    trimesh.creation.box((80, 40, 55)).export(path)
    return path


# --- the mesh --------------------------------------------------------------------------------


def test_a_file_without_a_unit_is_a_question_with_sizes(cad):
    with pytest.raises(InputError) as asked:
        unit_of(cad, None)
    text = str(asked.value)
    assert text.startswith(f"{cad} does not say its unit. How large is the part? Give --units mm")
    assert "--units mm if it is 80 x 40 x 55 mm; " in text
    assert "--units inch if it is 2.03 x 1.02 x 1.4 m" in text
    assert "--units m " not in text  # 80 m is no part
    assert unit_of(cad, "cm") == "cm"


@pytest.mark.parametrize("kind", ["glb", "step", "STP"])
def test_kinds_that_have_a_unit_are_not_asked_about(tmp_path, kind):
    assert unit_of(tmp_path / f"part.{kind}", None) == "m"


def test_a_unit_that_contradicts_a_step_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="says its unit itself: leave --units out"):
        unit_of(tmp_path / "part.step", "mm")


def test_files_that_cannot_be_asked_about(tmp_path):
    with pytest.raises(MissingFileError, match="is missing"):
        unit_of(tmp_path / "gone.stl", None)
    (tmp_path / "bad.stl").write_bytes(b"solid")
    with pytest.raises(DataError, match="not a readable mesh"):
        unit_of(tmp_path / "bad.stl", None)
    trimesh.creation.box((1e6, 1e6, 1e6)).export(tmp_path / "huge.stl")
    with pytest.raises(InputError, match="in no known unit is that a part"):
        unit_of(tmp_path / "huge.stl", None)


def test_step_files_need_a_package_and_say_which(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cascadio", None)
    (tmp_path / "part.step").write_text("ISO-10303-21;")
    with pytest.raises(DataError, match="'.step' files need the Python package cascadio: install"):
        load_cad(tmp_path / "part.step", "m")


def facts_of(mesh, tmp_path, symmetry="none", name="part.stl"):
    path = tmp_path / name
    mesh.export(path)
    loaded = load_cad(path, "mm")
    return mesh_facts(path, "mm", loaded, symmetry_of(symmetry, loaded))


def test_facts_of_a_mesh(tmp_path):
    facts = facts_of(trimesh.creation.box((80, 40, 55)), tmp_path, "z2")
    assert facts == json.loads(json.dumps(facts))
    lines = dict(fact_lines(facts))
    assert lines["file"] == "part.stl, in mm"
    assert lines["size"].startswith("80 x 40 x 55 mm; bounding sphere 105")
    assert lines["surface"] == "12 faces, watertight"
    assert lines["unchanged by"] == "180 degrees about z"
    assert lines["colours"].startswith("none") and facts["warnings"] == []


def test_holes_are_found_and_touching_bodies_are_none(tmp_path):
    box = trimesh.creation.box((80, 40, 6))
    two = box + trimesh.creation.box((80, 40, 6)).apply_translation((0, 0, 6))
    assert facts_of(two, tmp_path)["watertight"]
    open_box = trimesh.Trimesh(box.vertices, box.faces[:-1])
    facts = facts_of(open_box, tmp_path)
    assert not facts["watertight"]
    assert any("has holes" in text for text in facts["warnings"])


def test_large_parts_and_coloured_symmetric_ones_are_doubted(tmp_path):
    facts = facts_of(trimesh.creation.box((2000, 400, 300)), tmp_path)
    assert facts["warnings"] == ["it is 2 x 0.4 x 0.3 m: is 'mm' its unit?"]
    box = trimesh.creation.box((80, 40, 55))
    box.visual.face_colors = np.tile([[255, 0, 0, 255], [0, 0, 255, 255]], (6, 1))
    facts = facts_of(box, tmp_path, "z2", "part.ply")
    assert facts["colours"] == "its own"
    assert any("colours tell its sides apart" in text for text in facts["warnings"])


# --- plan and ledger -------------------------------------------------------------------------


def open_ledger(folder, **changes):
    return Ledger(folder, settings(**changes).to_dict(), "page")


def settings(**changes):
    values = {"mesh": "abc", "name": "part", "units": "mm", "hours": 2.0, "symmetry": "auto"}
    values |= {"views": "uniform", "distance": (0.3, 0.8), "seed": 0}
    return Settings(**(values | changes))


@pytest.mark.parametrize("hours", [0.02, 0.1, 2, 12])
def test_the_hours_are_divided(hours):
    plan = Plan.of(hours)
    assert 0.8 * hours < plan.detector_hours + plan.pose_hours < 0.9 * hours
    assert plan.pose_hours > plan.detector_hours > 0
    assert all(20 <= n <= 500 for n in (plan.test_images, plan.calibration_images))
    assert 100 <= plan.presence_images <= 500


def test_photographs_get_a_part_of_the_pose_models_hours():
    without, plan = Plan.of(2), Plan.of(2, photos=True)
    assert without.photos_hours == 0 < plan.photos_hours < plan.pose_hours
    assert plan.pose_hours + plan.photos_hours == pytest.approx(without.pose_hours)


@pytest.mark.parametrize("hours", [0, -1, 0.001, float("nan")])
def test_hours_that_make_no_sense_are_refused(hours):
    with pytest.raises(InputError, match="--hours must be between"):
        settings(hours=hours)


def test_the_ledger_remembers_what_is_done(tmp_path):
    ledger = open_ledger(tmp_path / "a b")
    assert ledger.seconds("mesh") is None and not (tmp_path / "a b").exists()
    ledger.done("mesh", 1.26)
    again = open_ledger(tmp_path / "a b")
    assert (again.seconds("mesh"), again.seconds("data")) == (1.3, None)
    assert [path.name for path in (tmp_path / "a b").iterdir()] == [PART]  # nothing partial


def test_other_settings_and_foreign_folders_are_refused(tmp_path):
    open_ledger(tmp_path / "run").done("mesh", 1)
    with pytest.raises(InputError, match=r"begun with hours 2.0, not 1.0: give the same again"):
        open_ledger(tmp_path / "run", hours=1.0)
    with pytest.raises(InputError, match="not yet had the 2 hours .*; when they are done, it goes"):
        open_ledger(tmp_path / "run", hours=3.0)
    assert open_ledger(tmp_path / "run").seconds("mesh") == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else: give another --name"):
        open_ledger(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.txt"]


def test_more_hours_begin_a_stage_of_what_is_finished(tmp_path):
    run = tmp_path / "run"
    for phase in ("mesh", "page"):
        open_ledger(run).done(phase, 1)
    with pytest.raises(InputError, match="begun with hours 2.0, not 4.0, seed 0, not 1: give"):
        open_ledger(run, hours=4.0, seed=1)
    for _ in range(2):  # nothing has begun yet
        second = open_ledger(run, hours=4.0)
        assert (second.seconds("mesh"), second.hours) == (None, 2.0)
    second.done("mesh", 5)
    second = open_ledger(run, hours=4.0)
    assert second.seconds("mesh") == 5
    assert second.earlier == [{"hours": 2.0, "phases": {"mesh": 1, "page": 1}}]
    with pytest.raises(InputError, match="not yet had the 4 hours"):
        open_ledger(run, hours=5.0)
    second.done("page", 6)
    assert [each["hours"] for each in open_ledger(run, hours=5.0).earlier] == [2.0, 4.0]


def test_a_stage_trains_for_its_own_hours_and_is_measured_for_all():
    whole, second = Plan.of(4), Plan.of(4, 3.5)
    assert second.detector_hours + second.pose_hours == pytest.approx(0.43)
    assert second.test_images == whole.test_images > Plan.of(0.5).test_images
    with pytest.raises(InputError, match="4 adds 0.01 to the 3.99 that are done: give 4.01 or"):
        Plan.of(4, 3.99)


def test_stages_have_folders_of_their_own():
    third = Layout(Path("runs/a"), 3)
    assert [each.pose.name for each in third.stages] == ["pose", "pose_2", "pose_3"]
    assert third.data == Path("runs/a/data_3") and third.bundle == Path("runs/a/bundle")


# --- confusions ------------------------------------------------------------------------------


def test_confusions_are_turns_of_the_object_modulo_its_symmetry():
    truth = Rotation.random(20, random_state=0)
    turn = {i: Rotation.identity() for i in range(20)}
    for i in range(6):
        turn[i] = Rotation.from_rotvec([0, 0, np.radians(178)])
    for i in range(6, 9):
        turn[i] = Rotation.from_rotvec([np.radians(-92), 0.05, 0])
    turn[9] = Rotation.from_rotvec(np.radians(20) * np.array([0, 1, 0]))  # not wrong enough
    turn[10] = Rotation.from_rotvec(np.radians(118) * np.ones(3) / 3**0.5)
    estimate = np.stack([(truth[i] * turn[i]).as_matrix() for i in range(20)])
    found = confusions(truth.as_matrix(), estimate, np.eye(3)[None])
    assert [(c.words, round(c.share, 3)) for c in found] == [
        ("about 180 degrees about z", 0.3),
        ("about 90 degrees about x", 0.15),
        ("about 120 degrees about a skew axis", 0.05),
    ]
    half_turn = np.stack([np.eye(3), np.diag([-1.0, -1, 1])])
    modulo = confusions(truth.as_matrix(), estimate, half_turn)
    assert modulo[0].words == "about 90 degrees about x" and len(modulo) == 2
    assert confusions(truth.as_matrix(), truth.as_matrix(), np.eye(3)[None]) == []


# --- the page --------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Collects headings, texts and sources of a page, and whether its elements are closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.headings, self.sources, self.text = [], [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)
        self.text += data


def test_the_page_needs_no_other_file_and_escapes_what_it_shows():
    picture = Picture(PNG, "a & b")
    first = Section("Mesh <1>", ["text"], [("size", "80 & 40")], [picture], ["careful"])
    page = render("Träger", "good: 90 % > 80 %", [first, Section("Run", code=["./run 'a b'"])])
    outline = Outline(page)
    assert outline.open == [] and outline.headings == ["Träger", "Mesh <1>", "Run"]
    assert all(source.startswith("data:image/png;base64,") for source in outline.sources)
    assert len(outline.sources) == 1
    for text in ("good: 90 % > 80 %", "80 & 40", "careful", "./run 'a b'", "a & b"):
        assert text in outline.text
    assert not re.search(r"https?://|url\(|@import", page)


def test_curves_come_from_the_logs_of_all_starts(tmp_path):
    for version, rows in ((0, "0,9.0,\n1,8.0,\n2,,1.5\n"), (1, "2,7.0,\n3,6.0,\n4,,2.5\n")):
        folder = tmp_path / "csv" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("step,train/loss,val/ll_gain\n" + rows)
    pictures = [
        training_curves(runs, POSE_CURVES)
        for runs in ([tmp_path], [tmp_path, tmp_path], [tmp_path / "none"])
    ]
    assert all(picture.startswith(PNG) for picture in pictures) and len(set(pictures)) == 3


def test_boxes_are_drawn_where_they_are():
    image = np.zeros((480, 640, 3), np.uint8)
    box, none = np.array([[100.0, 100, 300, 200]]), np.zeros((0, 4))
    plain = detections([(image, none, none, np.zeros(0))])
    drawn = detections([(image, box, box, np.array([0.9]))])
    assert plain.startswith(PNG) and len(drawn) > len(plain)


def test_reports_of_a_detector_are_none_of_the_pose_model(tmp_path):
    for name in ("report", "report_dev", "report_times", "report_detector_rendered"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert [path.stem for path in find_reports(tmp_path)] == ["report", "report_dev"]
