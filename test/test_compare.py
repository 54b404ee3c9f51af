"""Tables of many reports from reports as the evaluation writes them."""

import csv
import json

import cv2
import numpy as np
import pytest

from training.compare import compare


def summary(ll, levels=3, **changes):
    values = {
        "images": 10,
        "ll_uniform_zero": [ll, 0.1],
        "ll_pi2": [ll - 2.29, 0.1],
        "ll_of_uniform_pi2": -2.29,
        "ll_uniform_zero_per_level": [[ll - levels + i + 1, 0.1] for i in range(levels)],
        "ll_pi2_per_level": [[ll - levels + i - 1.29, 0.1] for i in range(levels)],
        "spread_mean_deg": 4.0,
        "rotation_median_deg": 3.0,
        "acc_5": 0.25,
        "acc_10": 0.5,
        "acc_15": 0.75,
        "acc_30": 1.0,
        "coverage": {"0.5": 0.5, "0.8": 0.8, "0.9": 0.9, "0.95": 0.95},
    }
    return values | changes


def make_report(folder, variant, name, ll, **changes):
    report = {
        "object": name,
        "data": f"shapes/{name}",
        "split": "test",
        "variant": variant,
        "seed": 1,
        "search": {"beam": 512, "depth": 3},
        "protocol": "the image is the crop; temperatures off",
        "package_version": "0",
        "git_commit": "0",
        "metrics": {"all": summary(ll), "visible < 0.5": summary(-50.0)},
    }
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report | changes))
    (folder / "report_times.json").write_text("{}")
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    return [
        make_report(tmp_path / "a", "Ours", "cube", 9.0),
        make_report(tmp_path / "b", "Ours", "cone", 6.5),
        make_report(tmp_path / "c", "w/o IS", "cube", 8.0),
        make_report(tmp_path / "d", "w/o IS", "cone", 7.0),
    ]


def rows(path, metric):
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    return header, {line[1]: line[2:] for line in lines if line[0] == metric}


def test_rows_are_variants_and_columns_objects(runs, tmp_path, capsys):
    lines = compare(runs, str(tmp_path / "out" / "table"))
    assert "\n".join(lines) in capsys.readouterr().out
    start = lines.index("## LL (uniform = 0)")
    assert lines[start + 2 : start + 6] == [
        "| | cube | cone | mean |",
        "|---|---|---|---|",
        "| Ours | 9.00 | 6.50 | 7.75 |",
        "| w/o IS | 8.00 | 7.00 | 7.50 |",
    ]
    assert "Each: 10 images, beam 512, 3 levels, temperatures off." in lines
    assert not any("ADD" in line for line in lines)  # nothing to show for rotations
    header, found = rows(tmp_path / "out" / "table.csv", "LL (pi^2)")
    assert header == ["metric", "variant", "cube", "cone", "mean"]
    assert found == {"Ours": ["6.71", "4.21", "5.46"], "w/o IS": ["5.71", "4.71", "5.21"]}
    assert rows(tmp_path / "out" / "table.csv", "Acc@10 deg (%)")[1]["Ours"] == ["50.0"] * 3
    assert (tmp_path / "out" / "table.md").read_text() == "\n".join(lines)
    picture = cv2.imread(str(tmp_path / "out" / "table.png"))
    assert picture.shape[0] > 300 and np.ptp(picture) == 255


def test_what_was_not_made_alike_is_told(runs, tmp_path):
    other = make_report(tmp_path / "e", "topk", "cube", 8.5, search={"beam": 64, "depth": 3})
    lines = compare([*runs, other], str(tmp_path / "table"))
    assert "- topk, cube: 10 images, beam 64, 3 levels, temperatures off" in lines
    assert "- Ours, cone: 10 images, beam 512, 3 levels, temperatures off" in lines


def test_an_object_that_a_variant_lacks_leaves_a_gap(runs, tmp_path):
    lines = compare(runs[:3], str(tmp_path / "table"))
    assert "| w/o IS | 8.00 | - | - |" in lines
    header, found = rows(tmp_path / "table.csv", "LL (uniform = 0)")
    assert found["w/o IS"] == ["8.0", "", ""]


def test_rows_can_be_named(runs, tmp_path):
    lines = compare([runs[0], f"Ours, deeper={runs[2]}"], str(tmp_path / "table"))
    assert any(line.startswith("| Ours, deeper | 8.00 |") for line in lines)


def test_a_file_among_several_can_be_named(runs, tmp_path):
    """Without a name report.json is meant, not those of other splits, times or records."""
    other = json.loads((tmp_path / "a" / "report.json").read_text())
    other["metrics"]["all"]["ll_uniform_zero"] = [1.0, 0.1]
    for name in ("report_dev", "report_dev_times"):
        (tmp_path / "a" / f"{name}.json").write_text(json.dumps(other))
    assert any("| Ours | 9.00 |" in line for line in compare(runs[:1], str(tmp_path / "t")))
    named = str(tmp_path / "a" / "report_dev.json")
    assert any("| Ours | 1.00 |" in line for line in compare([named], str(tmp_path / "t")))


def test_what_does_not_compare_is_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="two reports are of 'Ours' on cube"):
        compare([runs[0], runs[0]], str(tmp_path / "t"))
    for changes in (
        {"split": "dev"},
        {"data": "symsol/cone"},
        {"protocol": "the paper's protocol; temperatures off"},
    ):
        other = make_report(tmp_path / "other", "Ours", "cone", 1.0, **changes)
        with pytest.raises(ValueError, match="do not compare"):
            compare([runs[0], other], str(tmp_path / "t"))
    # Temperatures are part of a variant.
    fitted = make_report(
        tmp_path / "other", "w/o IS", "cone", 1.0, protocol="the image is the crop; temperatures on"
    )
    compare([runs[0], fitted], str(tmp_path / "t"))


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing has no report.json"):
        compare([str(tmp_path / "nothing")], str(tmp_path / "t"))
