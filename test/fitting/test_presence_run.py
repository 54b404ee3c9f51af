"""Presence from renderings to a bundle and its report, with an untrained network."""

import json
from dataclasses import replace

import pytest

from spyropose_ros.core.bundle import CONFIG, ModelBundle
from spyropose_ros.core.errors import InputError
from training.config import PRESETS
from training.data.rendered import RenderedSource
from training.data.streams import TEST, VALIDATION
from training.evaluate_presence import evaluate_presence
from training.fit_presence import fit_presence
from training.presence.shown import BACKGROUND, WITHOUT_HANDLE, renderings


@pytest.fixture
def directory(tiny_bundle, tmp_path):
    """An untrained model of the mug."""
    tiny_bundle.object = replace(tiny_bundle.object, name="mug")
    record = {"dataset": "rendered", "object": "mug", "config": PRESETS["default"].to_flat()}
    tiny_bundle.record = record
    tiny_bundle.save_pretrained(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_the_fit_changes_nothing_but_the_presence_and_its_record(directory):
    with pytest.raises(InputError, match="has no presence: fit it with.*training.fit_presence"):
        evaluate_presence(str(directory), images=1)
    before = json.loads((directory / CONFIG).read_text())
    kept = fit_presence(str(directory), images=45, device="cpu")
    after = json.loads((directory / CONFIG).read_text())
    assert vars(ModelBundle.from_pretrained(directory).presence) == kept == after.pop("presence")
    record = after["record"].pop("presence")
    assert min(record["crops"].values()) >= 20
    assert after == before
    report = evaluate_presence(str(directory), images=15, device="cpu")
    assert report["object"] >= 3 and BACKGROUND in report["kinds"]
    assert {file.name for file in directory.glob("presence_renderings.*")} == {
        f"presence_renderings.{kind}" for kind in ("json", "md", "png")
    }


def test_renderings_are_the_same_again_and_others_for_each_stream():
    source = RenderedSource("mug", "data")
    first, again = (list(renderings(source, 0, VALIDATION, 12)) for _ in range(2))
    other = list(renderings(source, 0, TEST, 3))
    for a, b in zip(first, again, strict=True):
        assert (a.image == b.image).all() and (a.boxes == b.boxes).all() and a.kinds == b.kinds
    assert all((a.image != b.image).any() for a, b in zip(first, other, strict=False))
    kinds = [kind for each in first for kind in each.kinds]
    assert {"mug", BACKGROUND} < set(kinds) and kinds.count("mug") < 0.7 * len(kinds)
    assert set(kinds) <= {
        *("mug", BACKGROUND, WITHOUT_HANDLE, "box", "cylinder", "cone", "ball", "ring", "capsule")
    }
