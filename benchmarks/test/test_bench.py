"""The benchmark: what its table, its numbers and its figures promise; not how fast anything is."""

import json

import pytest
import torch

from benchmarks.bench import against, baselines, memory, networks, stages
from benchmarks.bench import curves as curve_module
from benchmarks.bench import report as report_module
from benchmarks.bench.__main__ import bench, compare
from benchmarks.bench.arithmetic import Rates, level_work
from benchmarks.bench.timing import Stopwatch, Times, in_turn
from model_tools import untrained_model
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.estimator import Estimator, SearchSettings

CPU = torch.device("cpu")
BEAM = 8


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Folder of an untrained bundle whose data are the demo's."""
    demo = ModelBundle.from_pretrained(networks.DEMO)
    model = untrained_model(torch.tensor(demo.object.keypoints[:4]))
    info = networks.replace(demo.object, keypoints=demo.object.keypoints[:4])
    folder = tmp_path_factory.mktemp("models") / "tiny"
    ModelBundle(model, info, [0.02, 0.02, 0.02], demo.record).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def scene(network):
    return networks.Scene.of(networks.open_network(network))


def once(calls, device):
    return in_turn(calls, device, budget=0.0, least=1)


@pytest.fixture(scope="module")
def run(network, tmp_path_factory):
    """Report, text and folder of a quick run."""
    folder = tmp_path_factory.mktemp("bench")
    options = {"curves": "beam,tolerance", "images": 2, "memory": False, "quick": True}
    with pytest.MonkeyPatch.context() as patch:
        for module in (baselines, curve_module, report_module):  # as few rounds as there may be
            patch.setattr(module, "in_turn", lambda calls, device, *_, **__: once(calls, device))
        bench(network, beam=BEAM, output=folder, **options)
    return json.loads((folder / "tiny_cpu.json").read_text()), folder


def test_stages_are_complete_and_in_order(run):
    report, _ = run
    found = [stage for stage in report["stages"] if not stage.startswith("level")]
    expected = [stage for stage in stages.ORDER if stage != "level"]
    if not report["ros"]:
        expected = [s for s in expected if s not in (stages.DECODE, stages.MESSAGE)]
    assert [stage for stage in expected if stage in found] == found
    assert {stages.UPLOAD, stages.CROP, stages.BACKBONE, stages.DISTRIBUTION} <= set(found)
    for level in range(report["levels"]):
        for stage in (stages.scoring(level), stages.selection(level)):
            low, high = report["stages"][stage]["quartiles_s"]
            assert 0 < low <= report["stages"][stage]["median_s"] <= high
        assert sum(report["scoring_shares"][str(level)].values()) == pytest.approx(1)


def test_stages_count_every_pose(run):
    report, _ = run
    assert report["poses"][0] == 576
    assert all(64 <= poses <= 64 * BEAM for poses in report["poses"][1:])
    assert report["poses"][1:] == [64 * cells for cells in report["expanded"][:-1]]


def test_bound_adds_up(run):
    parts = run[0]["bound"]["parts"]
    levels = [part for name, part in parts.items() if name.startswith("level")]
    total = parts["search, all levels"]
    assert total["macs"] == pytest.approx(sum(part["macs"] for part in levels))
    assert all(part["bound_s"] > 0 and part["measured_s"] > 0 for part in parts.values())


def test_other_ways_score_what_they_say(run):
    against = run[0]["against"]
    names = [baseline["name"] for baseline in against["searches"]["3"]]
    assert names == ["this search", "this search, full beam", "reference formulation"]
    full, reference = against["searches"]["3"][1:]
    assert full["poses"] == 576 + 2 * 64 * BEAM
    assert reference["poses"] == 576 + 2 * 64 * 512
    by_name = {baseline["name"]: baseline for baseline in against["others"]}
    assert by_name["every cell, depth 2"]["extrapolated_from_poses"] is None
    assert by_name["every cell, depth 3"]["extrapolated_from_poses"] == 576 * 64
    assert by_name["Implicit-PDF head, rotations only"]["poses"] == 2_359_296


def test_memory_is_measured(network):
    names = ["this search", "reference formulation"]
    found = memory.measure(names, network, "cpu", {"beam": BEAM}, 3, "data", 1)
    assert list(found) == names
    assert found["reference formulation"] > found["this search"] >= 0


def test_curves_have_every_value(run):
    curves = run[0]["curves"]
    assert list(curves) == ["beam", "tolerance"]
    for curve in curves.values():
        for series in [*curve["times"].values(), *curve["extra"].values()]:
            assert len(series) == len(curve["x"])
    assert len(curves["tolerance"]["extra"]["difference"]) == len(curves["tolerance"]["x"])


def test_table_fits_and_names_the_machine(run):
    report, folder = run
    text = (folder / "tiny_cpu.txt").read_text()
    assert max(map(len, text.splitlines())) <= 120  # the first lines name the machine
    table = text.partition("\n\n")[2]
    assert max(map(len, table.splitlines())) <= 98
    assert report["machine"] in text and "GPU rows not measured" in text
    assert "lower bound" in text and "extrapolated" in text and "not measured" in text


def test_figures_are_drawn(run):
    for name in ("tiny_cpu_stages.png", "tiny_cpu_curves.png"):
        assert (run[1] / name).read_bytes().startswith(b"\x89PNG")


def test_full_beam_is_as_good_as_the_reference(network, tmp_path):
    reference, full, _ = compare(network, 2, "512:0,4:0", output=tmp_path)
    assert reference["poses"] == full["poses"]
    assert full["difference"] == pytest.approx(0, abs=1e-3)
    rows = json.loads((tmp_path / "tiny_cpu_quality.json").read_text())["rows"]
    assert [row["beam"] for row in rows] == [512, 512, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"curves": "width"}, "no curve 'width'"), ({"device": "cuda:99"}, "not available")],
)
def test_refuses_what_it_does_not_know(network, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        bench(network, quick=True, output=tmp_path, **options)


def test_refuses_settings_without_sense(network, tmp_path):
    with pytest.raises(ValueError, match="beam:mass_tolerance"):
        compare(network, 1, "many", output=tmp_path)


def test_deeper_network_uses_its_last_head_again(network, scene):
    bundle = networks.open_network(network)
    deep = networks.with_depth(bundle, 5)
    assert deep.model.config.depth == len(deep.temperatures) == 5
    assert deep.model.heads[4] is deep.model.heads[2]
    assert bundle.model.config.depth == 3
    estimator = Estimator(deep, CPU, SearchSettings(BEAM))
    assert len(estimator.search(scene.image, scene.K, scene.boxes).levels) == 5


def test_published_sizes():
    bundle = networks.open_network("paper")
    config = bundle.model.config
    assert (config.crop_resolution, config.feature_stride, config.depth) == (224, 1, 7)
    assert (len(bundle.model.keypoints), config.embed_dim, config.hidden_dim) == (16, 64, 256)


def test_search_of_features_is_the_search(network, scene):
    bundle = networks.open_network(network)
    estimator = Estimator(bundle, CPU, SearchSettings(BEAM))
    scene = scene.crowded(2)
    seen = networks.Crops.of(estimator, scene)
    found = networks.search_features(estimator, seen)
    expected = estimator.search(scene.image, scene.K, scene.boxes)
    assert torch.equal(found.evaluations, expected.evaluations)
    torch.testing.assert_close(
        found.levels[-1].log_probability, expected.levels[-1].log_probability
    )


def test_stopwatch_counts_every_moment_once():
    watch = Stopwatch(CPU)
    watch.enter("outer")
    watch.wrapped(lambda: None, "inner")()
    found = watch.stop()
    assert list(found) == ["outer", "inner"]
    assert watch.stop() == {}  # it is reset


def test_calls_take_turns():
    order = []
    times = in_turn({n: lambda n=n: order.append(n) for n in "ab"}, CPU, 0.0, least=2)
    assert "".join(order) == "abbaab"  # the first round is the warm-up
    assert [len(t.seconds) for t in times.values()] == [2, 2]


def test_quartiles_of_one_call():
    assert Times([2.0]).quartiles == (2.0, 2.0)


def test_least_work_is_the_cheaper_way(network):
    config = networks.open_network(network).model.config
    rates = Rates(1e9, 1e9, 4)
    few, many = (level_work(config, 4, poses, rates) for poses in (1, 1_000_000))
    assert few.seconds(rates) < many.seconds(rates)
    weighted_sums = 4 * 4 * config.hidden_dim  # per pose: no first layer any more
    assert many.macs / 1_000_000 < weighted_sums + config.hidden_dim + 3 * 4 + 10


def test_two_commits_are_measured_in_turn(network, tmp_path, monkeypatch):
    monkeypatch.setattr(against, "_LEAST", 1)
    monkeypatch.setattr(against, "_MOST", 1)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(against.tempfile, "tempdir", None)  # so that it is read again
    found = bench(network, quick=True, beam=BEAM, against="HEAD", output=tmp_path)
    for compared in found.values():
        assert compared["HEAD"]["poses"] == compared["this tree"]["poses"]
        assert len(compared["seconds_ratios"]) == len(compared["cpu_seconds_ratios"]) == 1
    assert found["search alone"]["HEAD"]["poses"] > 576
    text = (tmp_path / "tiny_cpu_against.txt").read_text()
    assert "HEAD" in text and all(name in text for name in found)
    assert not list(tmp_path.glob("spyropose_*"))


def test_refuses_commits_that_it_cannot_measure(network, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="git says .*no-such-commit"):
        bench(network, quick=True, against="no-such-commit", output=tmp_path)
    broken = tmp_path / "side.py"
    broken.write_text("raise SystemExit(1)")
    monkeypatch.setattr(against, "_SIDE", broken)
    with pytest.raises(InputError, match="the code of HEAD cannot be measured"):
        bench(network, quick=True, against="HEAD", output=tmp_path)
