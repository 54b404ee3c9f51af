"""The reference formulation: the same distribution as the search that runs."""

import dataclasses

import pytest
import torch

from spyropose_ros.core import so3, so3_grid
from spyropose_ros.core.reference import MAX_DEPTH, ReferenceSearch, rotation_table
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox

BEAM = 20
TOLERANCE = 1e-4  # of logits, float32


@pytest.fixture
def views(tiny_bundle):
    """Features [2, C, h, w], intrinsics and regions of two images of noise."""
    generator = torch.Generator().manual_seed(1)
    side = tiny_bundle.model.config.crop_resolution
    crops = torch.rand((2, 3, side, side), generator=generator)
    K_crop = torch.tensor([[150.0, 3, 16], [0, 140, 14], [0, 0, 1]]).expand(2, 3, 3)
    centre = torch.tensor([[0.0, 0.01, 0.6], [-0.02, 0.0, 0.7]])
    box = TranslationBox.from_view(centre, tiny_bundle.object.diameter)
    return crops, K_crop, box


def test_logits_are_those_of_the_model(tiny_bundle, views, generator):
    crops, K_crop, box = views
    bundle = dataclasses.replace(tiny_bundle, temperatures=[1.0, 2.0, 0.5])
    reference = ReferenceSearch(bundle)
    features = bundle.model.features(crops)
    rotations = so3.random_rotations(2 * 300, generator).view(2, 300, 3, 3)
    # Far enough around the box for keypoints out of the crop, and some behind the camera
    translations = box.from_coordinates(4 * torch.rand((2, 300, 3), generator=generator) - 1.5)
    for level, temperature in enumerate(bundle.temperatures):
        poses = level, rotations, translations
        expected = bundle.model.logits(features, K_crop, *poses) / temperature
        found = reference.logits(features, K_crop, *poses)
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_search_gives_the_same_distribution(tiny_bundle, views, generator):
    crops, K_crop, box = views
    model, temperatures = tiny_bundle.model, tiny_bundle.temperatures
    features = model.features(crops)

    def score(level, rotations, translations):
        return model.logits(features, K_crop, level, rotations, translations) / temperatures[level]

    expected = search(score, box, model.config.depth, BEAM, mass_tolerance=0)
    found = ReferenceSearch(tiny_bundle, beam=BEAM).search(crops, K_crop, box)

    assert found.evaluations.tolist() == expected.evaluations.tolist()
    for ours, theirs in zip(found.levels, expected.levels, strict=True):
        for b in range(len(box)):
            _assert_same_choice(ours, theirs, b)
    rotations = so3.random_rotations(2 * 200, generator).view(2, 200, 3, 3)
    translations = box.from_coordinates(torch.rand((2, 200, 3), generator=generator))
    torch.testing.assert_close(
        found.log_density_per_level(rotations, translations),
        expected.log_density_per_level(rotations, translations),
        atol=1e-3,  # logits over temperatures of 0.01
        rtol=0,
    )


def test_all_mass_is_in_the_leaves(tiny_bundle, views):
    pyramid = ReferenceSearch(tiny_bundle, beam=BEAM).search(*views)
    for b in range(len(pyramid.box)):
        assert float(pyramid.distribution(b).probabilities.sum()) == pytest.approx(1, abs=1e-4)


def test_tables_hold_the_grid():
    index = torch.tensor([0, 71, 575, 4607])
    torch.testing.assert_close(
        rotation_table(2, torch.device("cpu"))[index], so3_grid.rotations(index, 2)
    )


def test_memory_of_the_tables_is_told(tiny_bundle):
    assert ReferenceSearch(tiny_bundle).table_bytes == 36 * 72 * (1 + 8 + 64)


def test_refuses_what_it_has_no_tables_for(tiny_bundle, views):
    with pytest.raises(ValueError, match="depth must be 1 to 3"):
        ReferenceSearch(tiny_bundle, depth=MAX_DEPTH)
    crops, K_crop, box = views
    with pytest.raises(ValueError, match="translations"):
        ReferenceSearch(tiny_bundle).search(crops, K_crop, TranslationBox.known(box.center))


def _assert_same_choice(ours, theirs, b):
    """The same cells are expanded; which of equally probable ones does not matter."""
    mine = dict(zip(ours.cells.keys()[b].tolist(), ours.log_probability[b].tolist(), strict=True))
    cut = theirs.log_probability[b][theirs.expanded[b]].min() if theirs.expanded[b].any() else 0
    chosen = set(ours.cells.keys()[b][ours.expanded[b]].tolist())
    wanted = set(theirs.cells.keys()[b][theirs.expanded[b]].tolist())
    for key in chosen ^ wanted:
        assert mine[key] == pytest.approx(float(cut), abs=1e-3)
