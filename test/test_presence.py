"""Whether the object is there: the model, its place in a bundle, the fit, the estimator."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit

from spyropose_ros.core.bundle import CONFIG, BundleError, ModelBundle
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.kernels.captured_search import CapturedSearch
from spyropose_ros.core.network.evidence import evidence
from spyropose_ros.core.presence import PresenceModel, with_score
from spyropose_ros.scenes.sampler import ObjectModel
from training.evaluation.calibration import calibration_error
from training.presence import shown
from training.presence.crops import Crops, look_at
from training.presence.evaluation import (
    area_under_curve,
    draw,
    report_lines,
    summarise,
)
from training.presence.fitting import fit, log_odds
from training.presence.shown import BACKGROUND, WITHOUT_HANDLE, Shown, photographs

K = np.array([[300.0, 0, 79.5], [0, 310.0, 59.5], [0, 0, 1]])
BOXES = np.array([[20.0, 30, 70, 90], [60, 10, 150, 100], [40, 40, 80, 95]])
BEAM = SearchSettings(beam=20, mass_tolerance=0.0)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.fixture
def with_presence(tiny_bundle):
    weights = (10 * np.random.default_rng(1).normal(size=16)).round(3).tolist()
    tiny_bundle.presence = PresenceModel(weights, -7.0)
    return tiny_bundle


def logistic_crops(number, seed):
    """Evidence whose true log odds are known, at even odds."""
    rng = np.random.default_rng(seed)
    there = np.arange(number) % 2 == 0
    x = rng.normal(size=(number, 3)) * [1, 10, 0.1] + there[:, None] * [1.5, 10, 0]
    return x, there, 1.5 * x[:, 0] - 1.5**2 / 2 + 0.1 * x[:, 1] - 0.5


# --- what the network sees ---


def test_evidence_is_the_maximum_and_the_middle():
    features = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    expected = features.flatten(2).amax(2), features[:, :, 2:6, 2:6].mean((2, 3))
    torch.testing.assert_close(evidence(features), torch.cat(expected, 1))
    assert evidence(features.half()).dtype == torch.float32


def test_the_estimator_answers_what_the_model_says_of_the_crop(with_presence, image):
    run = Estimator(with_presence, "cpu", BEAM)
    seen = look_at(run, [Shown(image, K, BOXES, ["a", "b", "c"])])
    expected = expit(log_odds(with_presence.presence, seen.evidence))
    found = [each.presence for each in run.estimate(image, K, BOXES)]
    assert found == pytest.approx(expected.tolist(), abs=1e-5)
    assert max(found) - min(found) > 1e-3 > 10 * abs(found - expected).max()  # says something
    alone = run.estimate(image, K, BOXES[1:2])[0]
    assert alone.presence == pytest.approx(found[1], abs=1e-5)
    assert alone.to("meta").presence == alone.presence


def test_presence_depends_on_no_setting_of_the_search(with_presence, image):
    few = Estimator(with_presence, "cpu", SearchSettings(beam=2, mass_tolerance=0.3))
    many = Estimator(with_presence, "cpu", BEAM)
    a, b = (run.estimate(image, K, BOXES) for run in (few, many))
    assert [x.presence for x in a] == [x.presence for x in b]


def test_a_captured_search_has_the_same_presence(with_presence, image):
    plain = Estimator(with_presence, "cpu", BEAM)
    run = Estimator(with_presence, "cpu", BEAM)
    run._captured = CapturedSearch(run._scorer, run._presence, run.depth, BEAM.beam)
    pairs = zip(run.estimate(image, K, BOXES), plain.estimate(image, K, BOXES), strict=True)
    for found, expected in pairs:
        assert found.presence == pytest.approx(expected.presence, abs=1e-5)


def test_views_are_averaged_in_log_odds(with_presence, image):
    other = image[::-1].copy()
    center, poses = np.array([0.0, 0.0, 0.5]), np.stack([np.eye(4)] * 2)
    run = Estimator(with_presence, "cpu", BEAM)

    def presence(images):
        found = run.estimate_multiview(images, [K] * len(images), poses[: len(images)], center)
        return found.presence

    odds = [math.log(p / (1 - p)) for p in (presence([image]), presence([other]))]
    assert presence([image, other]) == pytest.approx(float(expit(np.mean(odds))), abs=1e-4)


def test_a_bundle_that_does_not_tell(tiny_bundle, image):
    found = Estimator(tiny_bundle, "cpu", BEAM).estimate(image, K, BOXES)
    assert all(math.isnan(each.presence) for each in found)


# --- with a detector ---


@pytest.mark.parametrize(
    ("presence", "score", "both"),
    [
        (0.5, 0.8, 0.8),
        (0.8, 0.5, 0.8),
        (0.8, 0.8, 0.64 / 0.68),
        (0.5, 1.0, 0.95),
        (0.5, 0.001, 0.05),
        (0.0, 1.0, 0.0),
        (1.0, 0.001, 1.0),
        (0.7, 0.0, 0.7),
        (0.7, 75.0, 0.7),
        (0.7, -1.0, 0.7),
        (0.7, math.nan, 0.7),
        (math.nan, 0.9, math.nan),
    ],
)
def test_a_score_is_the_probability_beforehand(presence, score, both):
    assert with_score(presence, score) == pytest.approx(both, nan_ok=True)


# --- in a bundle ---


def test_a_bundle_keeps_it(with_presence, tmp_path):
    with_presence.save_pretrained(tmp_path)
    assert ModelBundle.from_pretrained(tmp_path).presence == with_presence.presence


def test_a_bundle_without_it_stays_as_it_was(tiny_bundle, tmp_path):
    tiny_bundle.save_pretrained(tmp_path)
    assert "presence" not in json.loads((tmp_path / CONFIG).read_text())
    assert ModelBundle.from_pretrained(tmp_path).presence is None


@pytest.mark.parametrize(
    "presence",
    [
        None,
        [],
        0.5,
        {},
        {"weights": [0.0] * 16},
        {"weights": [0.0] * 15, "offset": 0.0},
        {"weights": [0.0] * 10**4, "offset": 0.0},
        {"weights": [0.0] * 15 + [math.nan], "offset": 0.0},
        {"weights": [0.0] * 15 + [math.inf], "offset": 0.0},
        {"weights": [0.0] * 15 + [10**400], "offset": 0.0},
        {"weights": [0.0] * 15 + ["1"], "offset": 0.0},
        {"weights": [0.0] * 15 + [True], "offset": 0.0},
        {"weights": [0.0] * 15 + [[0.0]], "offset": 0.0},
        {"weights": {str(i): 0.0 for i in range(16)}, "offset": 0.0},
        {"weights": 16 * "1", "offset": 0.0},
        {"weights": [0.0] * 16, "offset": None},
        {"weights": [0.0] * 16, "offset": math.nan},
        {"weights": [0.0] * 16, "offset": 0.0, "more": 1},
    ],
)
def test_hostile_values_are_refused(tiny_bundle, tmp_path, presence):
    tiny_bundle.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text()) | {"presence": presence}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"config.json: presence needs.*training.fit_presence"):
        ModelBundle.from_pretrained(tmp_path)


def test_whole_numbers_will_do(with_presence, image):
    with_presence.presence = PresenceModel([0] * 16, 0)
    (found,) = Estimator(with_presence, "cpu", BEAM).estimate(image, K, BOXES[:1])
    assert found.presence == 0.5


# --- the fit ---


def test_the_fit_finds_the_true_odds():
    x, there, _ = logistic_crops(4000, seed=0)
    model = fit(x, there)
    fresh, _, true = logistic_crops(500, seed=1)
    odds = log_odds(model, fresh)
    assert np.corrcoef(odds, true)[0, 1] > 0.99
    assert abs(expit(odds) - expit(true)).mean() < 0.02


def test_kinds_count_half_however_many_there_are():
    x, there, _ = logistic_crops(4000, seed=0)
    few = ~there | (np.arange(4000) % 20 == 0)
    fresh, _, true = logistic_crops(500, seed=1)
    odds = log_odds(fit(x[few], there[few]), fresh)
    assert abs(expit(odds) - expit(true)).mean() < 0.04


def test_the_fit_does_not_trust_what_it_has_learned_by_heart():
    """Evidence that says nothing, more numbers than crops: probabilities near one half."""
    rng = np.random.default_rng(0)
    x, there = rng.normal(size=(200, 300)), np.arange(200) % 2 == 0
    odds = log_odds(fit(x, there), rng.normal(size=(200, 300)))
    assert abs(expit(odds) - 0.5).mean() < 0.1


def test_evidence_that_never_changes_does_no_harm():
    x, there, _ = logistic_crops(400, seed=0)
    model = fit(np.column_stack((x, np.full(400, 7.0))), there)
    assert model.weights[3] == 0 and model.weights[0] > 0


def test_other_crops_decide_on_the_scale():
    """Such as photographs, where the same evidence says less."""
    x, there, true = logistic_crops(6000, seed=0)
    model = fit(5 * x + 1, there, (x, there))
    assert abs(expit(log_odds(model, x)) - expit(true)).mean() < 0.02


@pytest.mark.parametrize("count", [0, 19])
def test_too_few_crops_are_refused(count):
    there = np.arange(100) < count
    with pytest.raises(InputError, match=f"got {count} and {100 - count}: use more images"):
        fit(np.zeros((100, 2)), there)


# --- how good it is ---


def test_area_under_the_curve_counts_pairs():
    right, wrong = np.array([0.2, 0.5, 0.9]), np.array([0.1, 0.5, 0.6, 0.3])
    pairs = [(r > w) + 0.5 * (r == w) for r in right for w in wrong]
    assert area_under_curve(right, wrong) == pytest.approx(np.mean(pairs))


def test_calibration_error_of_right_and_of_wrong_probabilities():
    x, there, true = logistic_crops(20_000, seed=3)
    keep = there | (np.arange(len(there)) % 10 == 1)  # five times as many with the object
    even = np.where(there, 0.5 / there[keep].sum(), 0.5 / (~there[keep]).sum())[keep]
    assert calibration_error(expit(true[keep]), there[keep], 10, even) < 0.02
    constant = np.full(keep.sum(), 0.9)
    assert calibration_error(constant, there[keep], 10, even) == pytest.approx(0.4)
    assert calibration_error(constant, there[keep], 10) == pytest.approx(0.9 - 1 / 1.2, abs=1e-3)
    assert calibration_error(1.0 * ~there, there, 10) == pytest.approx(1)


def test_the_report_says_what_is_confused(tmp_path):
    rng = np.random.default_rng(0)
    kinds = np.array(["mug"] * 50 + ["box"] * 50 + [WITHOUT_HANDLE] * 50)
    x = rng.normal(size=(150, 1)) + 3.0 * np.isin(kinds, ["mug", WITHOUT_HANDLE])[:, None]
    crops, model = Crops(x, kinds, "mug"), PresenceModel([3.0], -4.5)
    report = summarise(model, crops)
    assert (report["object"], report["other"]) == (50, 50)
    assert report["auc"] == report["kinds"]["box"]["auc"] > 0.95
    assert report["kinds"][WITHOUT_HANDLE]["auc"] < 0.7
    assert report["ece"] < 0.15 and report["there"] > 0.9 > 0.1 > report["kinds"]["box"]["presence"]
    text = "\n".join(report_lines(report | {"data": "here", "name": "mug"}))
    assert "| without handle | 50 |" in text and "nan" not in text
    draw(tmp_path / "figure.png", model, crops)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


# --- what it is fitted to ---


def test_backgrounds_keep_away_from_objects(image):
    instance = SimpleNamespace(
        object_id=1, visibility=SimpleNamespace(box=np.array([60.0, 40, 110, 100]), fraction=0.8)
    )
    hidden = SimpleNamespace(
        object_id=2, visibility=SimpleNamespace(box=np.array([0.0, 0, 50, 50]), fraction=0.05)
    )
    frames = [
        SimpleNamespace(
            scene_id=0, frame_id=n, K=K, image=lambda: image, instances=[instance, hidden]
        )
        for n in range(60)
    ]
    found = list(photographs(frames, {1: "mug", 2: "cup"}, seed=0))
    assert {kind for each in found for kind in each.kinds} == {"mug", BACKGROUND}
    for each in found:
        assert len(each.boxes) == len(each.kinds) and each.kinds[0] == "mug"
        for box in each.boxes[1:]:
            assert shown._covered(box, instance.visibility.box) <= 0.1
    again = list(photographs(frames, {1: "mug", 2: "cup"}, seed=0))
    assert all((a.boxes == b.boxes).all() for a, b in zip(found, again, strict=True))


def test_things_are_repeated_to_a_share():
    def thing(name):
        return ObjectModel(name, None, None, np.zeros(3), 0.1, [], False, np.eye(3)[None])

    others = [thing(str(n)) for n in range(30)]
    assert len(shown._repeated([thing("mug")], others, 0.4)) == 20
    assert len(shown._repeated([thing("a"), thing("b")], others, 0.5)) == 30
    assert shown._repeated([], others) == []
