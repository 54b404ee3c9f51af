"""Boxes of the detector: decoding, overlaps and the choice among rivals."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spyropose_ros.detector.boxes import area, decode, generalized_overlap, overlap, suppress
from spyropose_ros.detector.network import BINS, cells


def random_boxes(count, generator):
    corners = torch.rand((count, 2), generator=generator) * 50
    return torch.cat((corners, corners + torch.rand((count, 2), generator=generator) * 50), dim=1)


def overlap_in_python(a, b):
    def intersection(low, high):
        return max(0.0, min(a[high], b[high]) - max(a[low], b[low]))

    common = intersection(0, 2) * intersection(1, 3)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def test_overlaps_are_those_of_plain_arithmetic(generator):
    boxes = random_boxes(20, generator)
    found = overlap(boxes[:, None], boxes)
    expected = [[overlap_in_python(a, b) for b in boxes.tolist()] for a in boxes.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert (found > 0).sum() > 20


def test_the_generalized_overlap_of_simple_boxes():
    box = torch.tensor([0.0, 0, 2, 2])
    others = torch.tensor([[0.0, 0, 2, 2], [2, 0, 4, 2], [4, 0, 6, 2], [0, 0, 1, 2]])
    expected = torch.tensor([1.0, 0.0, -1 / 3, 0.5])
    torch.testing.assert_close(generalized_overlap(box, others), expected)


def test_the_generalized_overlap_pulls_boxes_together():
    box = torch.tensor([10.0, 0, 12, 2], requires_grad=True)
    generalized_overlap(box, torch.tensor([0.0, 0, 2, 2])).backward()
    assert box.grad[0] < 0 and box.grad.isfinite().all()  # the near edge moves to the other box


def test_empty_boxes_overlap_with_nothing():
    empty = torch.tensor([1.0, 1, 1, 1], requires_grad=True)
    crossed = torch.tensor([3.0, 3, 1, 1])
    assert area(crossed) == 0 and overlap(crossed, crossed) == 0 and overlap(empty, empty) == 0
    generalized_overlap(empty, empty.detach()).backward()
    assert empty.grad.isfinite().all()


def test_edges_are_where_their_distribution_is_on_average():
    centers, strides = cells(32, 32)
    edges = torch.full((len(centers), 4, BINS), -50.0)
    distances = torch.tensor([1, 2, 3, 4])
    edges[:, torch.arange(4), distances] = 0
    edges[:, torch.arange(4), distances + 1] = 0  # half and half
    boxes = decode(edges, centers, strides)
    signs = torch.tensor([-1, -1, 1, 1])
    expected = centers.repeat(1, 2) + signs * (distances + 0.5) * strides[:, None]
    torch.testing.assert_close(boxes, expected)


@given(seed=st.integers(0, 1000), classes=st.integers(1, 3), limit=st.integers(1, 12))
def test_no_two_chosen_boxes_are_rivals(seed, classes, limit):
    generator = torch.Generator().manual_seed(seed)
    boxes, scores = random_boxes(40, generator), torch.rand(40, generator=generator)
    labels = torch.randint(classes, (40,), generator=generator)
    chosen = suppress(boxes, scores, labels, 0.3, limit)
    assert (scores[chosen].diff() <= 0).all() and chosen[0] == scores.argmax()
    rival = (overlap(boxes[:, None], boxes) > 0.3) & (labels[:, None] == labels)
    for a, b in itertools.combinations(chosen, 2):
        assert not rival[a, b]
    if len(chosen) < limit:  # then each of the others has a better rival
        better = rival & (scores > scores[:, None])
        others = [i for i in range(40) if i not in chosen]
        assert better[others][:, chosen].any(1).all()
    assert len(chosen) <= limit


@pytest.mark.parametrize("count", [0, 1])
def test_few_boxes(count):
    found = suppress(torch.zeros(count, 4), torch.ones(count), torch.zeros(count).long(), 0.6, 9)
    assert found.tolist() == list(range(count))
