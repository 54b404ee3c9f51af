"""Evaluation from a bundle to a report, calibration and model card, with real small data."""

import itertools
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from spyropose_ros.bop.results import read_results
from spyropose_ros.core.bundle import WEIGHTS, ModelBundle, ObjectInfo
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.network.keypoint_model import make_model
from spyropose_ros.core.translation_grid import TranslationBox
from training import runs
from training.calibrate import calibrate, doubts
from training.card import write_card
from training.data.bop import BopSource
from training.data.shapes import ShapesSource
from training.evaluate import evaluate, visibility_groups
from training.evaluation.pictures import choose
from training.evaluation.protocol import Protocol, noisy_truth
from training.evaluation.records import RecordFile
from training.evaluation.report import read_report
from training.evaluation.verdict import verdict
from training.fit_presence import fit_presence

sys.path.append(str(Path(__file__).parent))  # for bop_files.py
import bop_files
from bop_files import BLOCK
from model_tools import untrained_model

OPTIONS = {"beam": 16, "depth": 2}
RECORD = {
    "config": {"seed": 0, "batch_size": 2},
    "command": "python -m training.train",
    "steps": 0,
    "hardware": "none",
    "seconds": 1,
    "package_version": "0",
    "git_commit": "0",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A test scene of four images and a training scene."""
    root = tmp_path_factory.mktemp("data") / "toy"
    bop_files.write_models(root)
    bop_files.write_scene(root / "test" / "000001", 1, n=4)
    bop_files.write_scene(root / "train" / "000000", 2, n=3)
    return root


@pytest.fixture
def bop_bundle(root, tiny_bundle, tmp_path):
    """An untrained model of the block."""
    source = BopSource(root, BLOCK)
    info = replace(
        tiny_bundle.object,
        center=source.center.tolist(),
        diameter=source.diameter,
        size_ratio=source.size_ratio[0],
    )
    record = RECORD | {"dataset": str(root), "object": str(BLOCK)}
    ModelBundle(tiny_bundle.model, info, [0.05] * 3, record).save_pretrained(tmp_path / "block")
    return tmp_path / "block"


@pytest.fixture
def shape_bundle(tiny_bundle, tmp_path):
    """An untrained model of the cube's rotations."""
    torch.manual_seed(0)
    config = replace(tiny_bundle.model.config, rotation_only=True, crop_padding=1.3)
    keypoints = torch.tensor(tiny_bundle.object.keypoints) * 8
    info = ObjectInfo("cube", [0.0, 0, 0], 1.0, 1.0, 0.1, keypoints.tolist())
    record = RECORD | {"dataset": "shapes", "object": "cube"}
    bundle = ModelBundle(make_model(config, keypoints).eval(), info, [0.05] * 3, record)
    bundle.save_pretrained(tmp_path / "cube", half=False)
    return tmp_path / "cube"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- reports ---


def test_twice_gives_the_same_bytes(bop_bundle, tmp_path):
    for name in "ab":
        evaluate(str(bop_bundle), output=str(tmp_path / name), **OPTIONS)
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert a.keys() == {
        "report.json",
        "report_times.json",
        "report.md",
        "report.png",
        "report_predictions.png",
        "report.records.jsonl",
    }
    for name in ("report.json", "report.png", "report_predictions.png"):
        assert a[name] == b[name]
    assert a["report_times.json"] != b["report_times.json"]
    other = evaluate(str(bop_bundle), seed=2, output=str(tmp_path / "c"), **OPTIONS)
    assert other["metrics"] != json.loads(a["report.json"])["metrics"]


def test_other_data_are_evaluated_anew(bop_bundle, root, tmp_path):
    """The same folder and the same settings, but other poses; or another folder."""
    moved = shutil.copytree(root, tmp_path / "moved")
    options = OPTIONS | {"dataset": str(moved), "output": str(tmp_path / "out")}
    first = evaluate(str(bop_bundle), **options)
    here = evaluate(str(bop_bundle), **OPTIONS)
    assert first["metrics"] == here["metrics"] and first["data"] == "moved/1"
    poses = moved / "test" / "000001" / "scene_gt.json"
    edited = json.loads(poses.read_text())
    for annotations in edited.values():
        for entry in annotations:
            entry["cam_t_m2c"][0] += 5
    poses.write_text(json.dumps(edited))
    second = evaluate(str(bop_bundle), **options)
    assert second["metrics"]["all"]["ll_pi2"] != first["metrics"]["all"]["ll_pi2"]


def test_it_goes_on_after_a_kill(bop_bundle, tmp_path):
    """Two images are done, the third's record was cut short."""
    evaluate(str(bop_bundle), output=str(tmp_path / "whole"), **OPTIONS)
    evaluate(str(bop_bundle), limit=2, output=str(tmp_path / "part"), **OPTIONS)
    path = tmp_path / "part" / "report.records.jsonl"
    done = path.read_text()
    assert len(done.splitlines()) == 3
    path.write_text(done + '{"id": "000001/0000')
    report = evaluate(str(bop_bundle), output=str(tmp_path / "part"), **OPTIONS)
    assert report["metrics"]["all"]["images"] == 4
    assert path.read_text().startswith(done)  # not searched again: the times are the same
    name = "report.json"
    assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_records_of_other_settings_are_not_used(tmp_path):
    path = tmp_path / "records.jsonl"
    file = RecordFile(path, {"seed": 1})
    file.append({"id": 0})
    file.append({"id": 1})
    assert RecordFile(path, {"seed": 1}).records == [{"id": 0}, {"id": 1}]
    assert RecordFile(path, {"seed": 2}).records == []
    assert RecordFile(path, {"seed": 1}).records == []  # they were replaced
    path.write_text("no records\n")
    assert RecordFile(path, {"seed": 1}).records == []


def test_a_changed_bundle_starts_anew(bop_bundle, tmp_path):
    prints = {runs.fingerprint(ModelBundle.from_pretrained(bop_bundle))}
    bundle = ModelBundle.from_pretrained(bop_bundle)
    prints.add(runs.fingerprint(bundle))
    assert len(prints) == 1
    bundle.temperatures[0] *= 2
    prints.add(runs.fingerprint(bundle))
    bundle.model.state_dict()[next(iter(bundle.model.state_dict()))].view(-1)[0] += 1
    prints.add(runs.fingerprint(bundle))
    assert len(prints) == 3


def test_modes_weighed_by_renderings_are_reported(bop_bundle, tmp_path):
    """Two images, beside what the search alone gives of the same ones."""
    bundle = ModelBundle.from_pretrained(bop_bundle)
    model, temperatures = untrained_model(seed=4), [0.0005] * 3  # several modes
    replace(bundle, model=model, temperatures=temperatures).save_pretrained(bop_bundle)
    options = {"limit": 2, "output": str(tmp_path / "out"), **OPTIONS}
    plain = evaluate(str(bop_bundle), **options)
    verified = evaluate(str(bop_bundle), verify=True, **options)
    assert verified == read_report(tmp_path / "out" / "report_verified.json")[0]
    assert verified["protocol"] == plain["protocol"] + "; modes verified by renderings"
    found, before = (report["metrics"]["all"] for report in (verified, plain))
    assert found["modes_mean"] > 1 and found["ll_pi2"] != before["ll_pi2"]
    assert found["evaluations_mean"] == before["evaluations_mean"]


def test_modes_that_cannot_be_rendered_are_refused(bop_bundle, shape_bundle):
    for bundle, protocol in ((bop_bundle, {"paper_protocol": True}), (shape_bundle, {})):
        with pytest.raises(InputError, match="leave out --verify, or --paper-protocol and"):
            evaluate(str(bundle), verify=True, **protocol, **OPTIONS)


def test_precision_and_recall_against_what_explains_an_image(shape_bundle):
    report = evaluate(str(shape_bundle), ambiguity=True, limit=1, **OPTIONS)
    summary = report["metrics"]["all"]
    assert report["ambiguity"] and summary["admissible_median"] == 24  # of the cube
    measured = [
        summary[f"{by}_{name}"] for by in ("msd", "mpd") for name in ("precision", "recall")
    ]
    assert all(0 <= value <= 1 for value in measured)
    assert "| admissible poses, median | 24 |" in (shape_bundle / "report.md").read_text()
    plain = evaluate(str(shape_bundle), limit=1, **OPTIONS)  # with other records
    assert "ambiguity" not in plain and "msd_precision" not in plain["metrics"]["all"]


def test_rotations_only(shape_bundle):
    report = evaluate(str(shape_bundle), limit=3, **OPTIONS)
    assert report == read_report(shape_bundle / "report.json")[0]
    assert report["metrics"].keys() == {"all"}
    summary = report["metrics"]["all"]
    assert summary["images"] == 3
    assert summary["ll_of_uniform_pi2"] == pytest.approx(-2.2895, abs=1e-4)
    assert summary["ll_pi2"][0] == pytest.approx(summary["ll_uniform_zero"][0] - 2.2895, abs=1e-3)
    assert summary["evaluations_mean"] == 72 + 16 * 8
    text = (shape_bundle / "report.md").read_text()
    assert "the translation known" in text and "temperatures off" in text
    assert "lateral" not in text and "MSSD" not in text and "LL (uniform = 0)" in text
    whole = evaluate(str(shape_bundle), limit=1, exhaustive=True, **OPTIONS)
    assert whole == read_report(shape_bundle / "report_exhaustive.json")[0]
    assert whole["metrics"]["all"]["evaluations_mean"] == 576  # all of level 1
    assert "| level, all | 1 |" in (shape_bundle / "report_exhaustive.md").read_text()
    with pytest.raises(ValueError, match="no BOP result"):
        evaluate(str(shape_bundle), limit=3, results_csv="never.csv", **OPTIONS)


def test_answers_in_the_bop_format(bop_bundle, root, tmp_path):
    path = tmp_path / "tiny_toy-test.csv"
    evaluate(str(bop_bundle), results_csv=str(path), output=str(tmp_path / "r"), **OPTIONS)
    estimates = read_results(path)
    assert [(e.scene_id, e.image_id, e.object_id) for e in estimates] == [
        (1, image, BLOCK) for image in (0, 10, 20, 30)
    ]
    assert all(0 <= e.score <= 1 and e.seconds > 0 for e in estimates)
    records = (tmp_path / "r" / "report.records.jsonl").read_text().splitlines()[1:]
    for estimate, line in zip(estimates, records, strict=True):
        np.testing.assert_allclose(estimate.translation, json.loads(line)["t"])


def test_what_cannot_be_evaluated_is_named(bop_bundle, tiny_bundle, tmp_path):
    with pytest.raises(ValueError, match="no split 'tset': choose from test"):
        evaluate(str(bop_bundle), split="tset")
    with pytest.raises(ValueError, match="no image to evaluate in its split 'test'"):
        evaluate(str(bop_bundle), limit=0)
    tiny_bundle.save_pretrained(tmp_path / "old")
    with pytest.raises(ValueError, match="has no 'dataset'.*train it again"):
        evaluate(str(tmp_path / "old"))


def test_a_run_is_found_by_its_id(bop_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bop_bundle.rename(tmp_path / "bundle")
    (tmp_path / "runs" / "block_1").mkdir(parents=True)
    (tmp_path / "bundle").rename(tmp_path / "runs" / "block_1" / "bundle")
    for name in ("block_1", "runs/block_1", "runs/block_1/bundle"):
        assert Path(runs.bundle_directory(name)) == Path("runs/block_1/bundle")
    evaluate("block_1", limit=1, **OPTIONS)
    assert (tmp_path / "runs" / "block_1" / "bundle" / "report.json").is_file()


def test_groups_by_what_is_visible():
    def record(visible, handle=None):
        return {"visible_fraction": visible, "handle_fraction": handle}

    groups = visibility_groups([record(v) for v in (1.0, 0.9, 0.6, 0.5, 0.2)])
    assert {name: len(part) for name, part in groups.items()} == {
        "all": 5,
        "visible >= 0.9": 2,
        "visible >= 0.5": 4,
        "visible < 0.5": 1,
    }
    assert visibility_groups([record(1.0)] * 3).keys() == {"all"}
    handles = visibility_groups([record(1.0, handle) for handle in (0.0, 0.02, 0.05, 0.3)])
    assert {name: len(part) for name, part in handles.items()} == {
        "all": 4,
        "handle visible (>= 5 %)": 2,
        "handle hidden": 1,
    }


def test_variants_have_the_papers_names(tiny_bundle):
    for config, name in (
        ({}, "Ours"),
        ({"keypoints": "fps", "importance_sampling": True}, "Ours"),
        ({"keypoints": "fps", "importance_sampling": False}, "w/o IS"),
        ({"keypoints": "box", "importance_sampling": True}, "w/ box KP"),
        ({"keypoints": "none", "importance_sampling": True}, "w/o KP"),
        ({"keypoints": "none", "importance_sampling": False}, "w/o KP & IS"),
    ):
        tiny_bundle.record["config"] = config
        assert runs.variant(tiny_bundle) == name


def test_an_evaluation_ends_with_the_essence(bop_bundle, tmp_path, caplog):
    """The numbers that matter, where the report is, a picture of the part, and a verdict."""
    caplog.set_level("INFO")
    evaluate(str(bop_bundle), output=str(tmp_path), **OPTIONS)
    text = "\n".join(caplog.messages)
    assert re.search(r"^images +4 of toy/1, test$", text, re.MULTILINE)
    assert re.search(r"^position error +[\d.]+ mm sideways", text, re.MULTILINE)
    assert f"{tmp_path}/report.md, report_predictions.png" in text
    assert re.search(r"^verdict +too few images to judge \(4\)", text, re.MULTILINE)
    assert "](report_predictions.png)" in (tmp_path / "report.md").read_text()
    assert not list(tmp_path.glob("*.partial"))
    sheet = cv2.imread(str(tmp_path / "report_predictions.png"))
    assert sheet.shape == (256 + 2 * 20, 4 * 256, 3)
    tiles = np.split(sheet[:256], 4, axis=1)
    assert all(np.ptp(tile) > 100 for tile in tiles)  # four images, none of them blank
    assert all((a != b).any() for a, b in itertools.pairwise(tiles))


def test_pictures_go_from_the_best_to_the_worst():
    assert choose([5.0, 1.0, 3.0]) == [1, 2, 0]
    errors = list(np.random.default_rng(0).permutation(64))
    assert [errors[i] for i in choose(errors)] == [0, 9, 18, 27, 36, 45, 54, 63]


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({}, "calibrated: the 90 % region holds the true pose in 91%"),
        ({"images": 19}, "too few images to judge (19)"),
        ({"gains": [0.5, 1.0, 1.4]}, "has not learned: "),
        ({"modes_mean": 0.65}, "has learned little: "),
        ({"coverage": {"0.9": 0.55}}, "overconfident: "),
        ({"coverage": {"0.9": 0.55}, "gains": [3, 2, -4]}, "overconfident: "),  # it has learned
        ({"coverage": {"0.9": 0.86}}, "calibrated: "),  # within the noise of 100 images
        ({"coverage": {"0.9": 0.86}, "images": 10_000}, "calibrated: "),
        ({"coverage": {"0.9": 0.84}, "images": 10_000}, "overconfident: "),
        ({"coverage": {"0.9": 0.98}, "images": 1000}, "cautious: "),
        ({"inside_box": 0.7}, "looks in the wrong place: in 30% of the images"),
    ],
)
def test_the_verdict_names_what_is_wrong(changes, begins):
    gains = changes.pop("gains", [3.0, 6.0, 9.0])
    group = {"images": 100, "inside_box": 1.0, "coverage": {"0.9": 0.91}, "lateral_median_m": 0}
    group |= {"modes_mean": 1.5}
    group |= {"ll_uniform_zero_per_level": [[gain, 0.1] for gain in gains]} | changes
    report = {"metrics": {"all": group}, "search": {"depth": 3}, "protocol": "temperatures fitted"}
    assert verdict(report).startswith(begins)
    if begins.startswith("overconfident"):
        assert verdict(report).endswith("calibrate it on more of them")
        assert "-m training.calibrate" in verdict(report | {"protocol": "temperatures off"})
        paper = verdict(report | {"protocol": Protocol(paper=True).temperatures(None)})
        assert "training.calibrate" not in paper and "without --paper-protocol" in paper
    if begins.startswith("cautious"):
        assert verdict(report).endswith("wider than necessary")
        unfamiliar = {"protocol": "temperatures fitted on images, changed as photographs differ"}
        assert "calibrated for photographs" in verdict(report | unfamiliar)
    if begins.startswith("has not learned"):
        assert "(more --hours)" in verdict(report)


def test_rotations_alone_are_judged_by_what_they_can_gain():
    """Of 72 * 8^2 cells, not of 576 * 64^2."""
    group = {"images": 100, "inside_box": 1.0, "coverage": {"0.9": 0.91}, "modes_mean": 1.0}
    group |= {"ll_uniform_zero_per_level": [[1.0, None]]}
    report = {"metrics": {"all": group}, "search": {"depth": 3}, "protocol": ""}
    assert verdict(report).startswith("calibrated")
    assert verdict({**report, "metrics": {"all": group | {"lateral_median_m": 0}}}).startswith(
        "has not learned"
    )


# --- protocols ---


def test_the_papers_protocol(bop_bundle, root, tmp_path):
    report = evaluate(
        str(bop_bundle), paper_protocol=True, depth=2, limit=2, output=str(tmp_path), beam=3
    )
    assert (tmp_path / "report_paper.json").is_file()
    assert report["search"].items() >= {"beam": 3, "mass_tolerance": 0.0, "depth": 2}.items()
    assert "random orientation" in report["protocol"] and "temperatures off" in report["protocol"]
    assert report["metrics"]["all"]["inside_box"] == 1
    assert report["metrics"]["all"]["evaluations_mean"] == 576 + 3 * 64
    sample = next(BopSource(root, BLOCK).samples("test", 1))
    bundle = ModelBundle.from_pretrained(bop_bundle)
    Protocol(paper=True).prepare(bundle)
    assert bundle.temperatures == [1.0] * 3
    estimator = Estimator(bundle, "cpu", SearchSettings(4, 0.0, 1))
    boxes = [Protocol(paper=True).search(estimator, sample, seed).box for seed in (0, 0, 1)]
    assert torch.equal(boxes[0].basis, boxes[1].basis)
    assert not torch.equal(boxes[0].basis, boxes[2].basis)


def test_noisy_truths(root):
    """Frustum-aligned or cubic boxes of the true position, offsets of sigma 0.1 in box units."""
    source = BopSource(root, BLOCK)
    sample = next(source.samples("test", 1))
    truth = torch.tensor(sample.rotation @ source.center + sample.translation).float()[None]
    d = source.diameter
    for regular, volume in ((False, d * d * float(truth[0, 2])), (True, d**3)):
        rng = np.random.default_rng(0)
        boxes = [noisy_truth(sample, source.center, d, rng, regular) for _ in range(400)]
        offsets = torch.stack([box.coordinates(truth[None])[0, 0] - 0.5 for box in boxes])
        assert float(offsets.std()) == pytest.approx(0.1, rel=0.1)
        assert float(offsets.norm(dim=1).max()) < 0.5
        assert float(boxes[0].volume) == pytest.approx(volume, rel=1e-4)
        turns = torch.stack([box.basis[0, 0] for box in boxes])
        assert float((turns / turns.norm(dim=1, keepdim=True)).mean(0).norm()) < 0.2


def test_the_default_protocol_is_the_nodes(bop_bundle, root):
    bundle = ModelBundle.from_pretrained(bop_bundle)
    estimator = Estimator(bundle, "cpu", SearchSettings(4, 0.0, 2))
    sample = next(BopSource(root, BLOCK).samples("test", 1))
    ours = Protocol().search(estimator, sample, 1).distribution(0)
    node = estimator.estimate(sample.image, sample.K, sample.box[None])[0]
    assert torch.equal(ours.log_probabilities, node.log_probabilities)
    regular = Protocol(regular_grid=True).search(estimator, sample, 1).box
    frustum = Protocol().search(estimator, sample, 1).box
    torch.testing.assert_close(0.8 * regular.center, frustum.center)
    torch.testing.assert_close(regular.basis[0], bundle.object.diameter * torch.eye(3))


def test_images_that_are_crops_fit_the_model(shape_bundle):
    """A picture of another size is shown at the model's, with its intrinsics."""
    estimator = Estimator(ModelBundle.from_pretrained(shape_bundle), "cpu", SearchSettings(4, 0, 2))
    sample = next(ShapesSource("cube", 32).samples("test", 1))
    fine = replace(
        sample,
        image=np.kron(sample.image, np.ones((3, 3, 1), np.uint8)),
        K=np.array([[3.0, 0, 1], [0, 3, 1], [0, 0, 1]]) @ sample.K,
    )
    assert fine.image.shape == (96, 96, 3)
    found, expected = (Protocol().search(estimator, s, 1) for s in (fine, sample))
    torch.testing.assert_close(
        found.levels[1].log_probability, expected.levels[1].log_probability, rtol=0, atol=1e-3
    )
    assert torch.equal(expected.box.basis, TranslationBox.known(expected.box.center).basis)


# --- calibration and card ---


def test_what_is_evaluated_on_is_not_fitted_on(bop_bundle):
    with pytest.raises(ValueError, match="'test' is what .* is evaluated on"):
        calibrate(str(bop_bundle), "test", images=3)


@pytest.mark.parametrize("split", [None, "train"])
def test_calibration_writes_temperatures_only(bop_bundle, split):
    weights = (bop_bundle / WEIGHTS).read_bytes()
    before = json.loads((bop_bundle / "config.json").read_text())
    temperatures = calibrate(str(bop_bundle), split, images=3, seed=4, beam=8)
    after = json.loads((bop_bundle / "config.json").read_text())
    assert (bop_bundle / WEIGHTS).read_bytes() == weights
    assert after["temperatures"] == temperatures != before["temperatures"]
    fitted = after["record"].pop("calibration")
    data = "train images of toy/1" if split else "validation images of toy/1"
    assert fitted["data"] == data and fitted["seed"] == 4 and fitted["beam"] == 8
    assert fitted["images"] == (2 if split else 1)  # all there are
    assert after | {"temperatures": before["temperatures"]} == before
    report = evaluate(str(bop_bundle), limit=1, **OPTIONS)
    assert f"temperatures fitted on {fitted['images']} {data}" in report["protocol"]


def test_calibration_for_photographs_needs_no_other_images(bop_bundle):
    with pytest.raises(ValueError, match="--for-photographs .*: leave it out"):
        calibrate(str(bop_bundle), "train", images=3, for_photographs=True)
    calibrate(str(bop_bundle), images=3, beam=8, for_photographs=True)
    record = json.loads((bop_bundle / "config.json").read_text())["record"]["calibration"]
    assert record["data"] == "validation images of toy/1, changed as photographs differ"


def test_a_doubtful_calibration_says_so(bop_bundle, caplog):
    assert doubts(50, [50, 30, 10], [[0.31, 1.001, 4.9]]) == []
    assert doubts(50, [50, 50], [[0.5, 2.0], [0.8, 2.0]]) == []
    (few,) = doubts(49, [49], [[1.1]])
    assert few.startswith("temperatures fitted on 49 images scatter: use 50 or more")
    (bound,) = doubts(200, [200] * 4, [[1.1, 4.9999, 1.1, 0.3]])
    assert bound.startswith("the temperature of level 1, 3 is at a bound")
    # 24 is beyond the bound of 5
    (together,) = doubts(200, [200] * 3, [[4.9, 4.9, 5.0], [4.9, 0.9, 0.31]])
    assert together.startswith("the temperature of level 0 is at a bound")
    (scarce,) = doubts(200, [200, 9, 0], [[1.1, 1.1, 1.1]])
    assert scarce.startswith("level 1, 2 has the temperature of the level above: the search")
    calibrate(str(bop_bundle), "train", images=3, beam=8)
    assert "WARNING: temperatures fitted on 2 images" in caplog.text


def test_calibration_of_rotations(shape_bundle):
    weights = (shape_bundle / WEIGHTS).read_bytes()
    temperatures = calibrate(str(shape_bundle), images=4, beam=8)
    assert len(temperatures) == 3 and temperatures != [1.0] * 3
    assert json.loads((shape_bundle / "config.json").read_text())["temperatures"] == temperatures
    assert (shape_bundle / WEIGHTS).read_bytes() == weights


def test_the_card_shows_every_report(bop_bundle):
    with pytest.raises(FileNotFoundError, match="training.evaluate"):
        write_card(str(bop_bundle))
    evaluate(str(bop_bundle), **OPTIONS)
    evaluate(str(bop_bundle), split="validation", **OPTIONS)
    card = write_card(str(bop_bundle), note="A note.").read_text()
    assert card.count("LL (uniform = 0)") >= 4 and "A note." in card
    assert "## obj_000001: toy/1, test split" in card
    assert "## obj_000001: toy/1, validation split" in card
    assert "temperatures per level: off" in card and "## Presence" not in card
    for name in ("report.png", "report_validation.png"):
        assert f"]({name})" in card
        assert np.ptp(cv2.imread(str(bop_bundle / name))) > 100
    found = {"data": "toy/1, dev", "auc": 0.91234, "ece": 0.03}
    (bop_bundle / "presence_dev.json").write_text(json.dumps(found))
    card = write_card(str(bop_bundle)).read_text()
    assert "## Presence" in card and "| [toy/1, dev](presence_dev.md) | 0.912 | 0.030 |" in card


@pytest.mark.parametrize("command", [calibrate, fit_presence, write_card])
def test_nothing_is_stored_in_a_bundle_on_the_hub(command):
    with pytest.raises(InputError, match="owner/part is no folder here.* 'hf download owner/part"):
        command("owner/part")
