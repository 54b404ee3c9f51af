"""What detectors learn from: the cells of each object, and losses that are least at the truth."""

import pytest
import torch
from torch.nn import functional as F

from spyropose_ros.detector.boxes import decode, overlap, suppress
from spyropose_ros.detector.bundle import DetectorBundle, DetectorInfo
from spyropose_ros.detector.network import BINS, DetectionNetwork, Prediction, cells
from training.detector.assignment import BACKGROUND, assign
from training.detector.focal import distribution_focal_loss, quality_focal_loss
from training.detector.losses import detection_loss
from training.detector.start import started_from


def random_boxes(count, generator, smallest, largest=250):
    """Boxes of all sizes and ratios in an image of 416 x 320."""
    sizes = smallest * (largest / smallest) ** torch.rand((count, 2), generator=generator)
    space = torch.tensor([416, 320])
    corners = torch.rand((count, 2), generator=generator) * (space - sizes)
    return torch.cat((corners, corners + sizes), dim=1)


def able(boxes, centers, strides):
    """The best that each cell can predict for the first of the boxes that it lies in, [A, 4]."""
    reach = torch.cat((centers[:, None] - boxes[:, :2], boxes[:, 2:] - centers[:, None]), -1)
    inside = reach.amin(-1) > 0
    reach = reach[torch.arange(len(centers)), inside.int().argmax(1)]
    reach = reach.clamp(min=0).minimum(strides[:, None] * (BINS - 1))
    return torch.cat((centers - reach[:, :2], centers + reach[:, 2:]), dim=1)


def test_every_object_has_cells_that_reach_its_edges(generator):
    centers, strides = cells(320, 416)
    logits, label = torch.full((len(centers), 1), -4.6), torch.tensor([0])
    for box in random_boxes(200, generator, smallest=16)[:, None]:
        found = able(box, centers, strides)
        mine = assign(logits, found, box, label, centers, strides) == 0
        assert 1 <= mine.sum() <= 13
        fits = overlap(found[mine], box)
        assert fits.max() > 0.95 and fits.min() > 0.4
        distance = (centers[mine] - (box[0, :2] + box[0, 2:]) / 2).norm(dim=1)
        assert (distance <= 4 * strides[mine]).all()


def test_even_what_no_cell_outlines_has_a_cell(generator):
    centers, strides = cells(64, 64)
    logits, label = torch.full((len(centers), 1), -4.6), torch.tensor([0])
    nowhere = torch.cat((centers, centers), dim=1)
    for box in torch.tensor([[[1.0, 1, 4, 5]], [[0.0, 0, 64, 64]], [[9.0, 20, 60, 22]]]):
        mine = assign(logits, nowhere, box, label, centers, strides) == 0
        assert mine.sum() == 1


def test_cells_of_the_right_class_and_the_better_box_come_first():
    centers, strides = cells(64, 64)
    box, label = torch.tensor([[16.0, 16, 48, 48]]), torch.tensor([1])
    found = torch.cat((centers, centers), dim=1)
    near = ((centers - 32).abs().amax(1) < 5) & (strides == 8)
    good, other = near.nonzero()[:2, 0]
    logits = torch.full((len(centers), 2), -4.6)
    logits[good, 1] = logits[other, 0] = 1.0
    found[good] = found[other] = torch.tensor([16.0, 16, 48, 40])
    mine = assign(logits, found, box, label, centers, strides) == 0
    assert mine.nonzero().tolist() == [[good]]
    found[good, 3], found[other] = 28, box[0]  # now the other's box is much better
    mine = assign(logits, found, box, label, centers, strides) == 0
    assert mine.nonzero().tolist() == [[other]]


def test_good_cells_are_many():
    centers, strides = cells(64, 64)
    box, label = torch.tensor([[0.0, 0, 64, 64]]), torch.tensor([0])
    logits, found = torch.zeros(len(centers), 1), box.expand(len(centers), 4)
    assert (assign(logits, found, box, label, centers, strides) == 0).sum() == 13
    half = found * torch.tensor([1.0, 1, 1, 0.5])
    assert (assign(logits, half, box, label, centers, strides) == 0).sum() == 6


def test_a_cell_of_two_objects_answers_for_the_better_fit(generator):
    centers, strides = cells(320, 416)
    boxes, labels = random_boxes(12, generator, 40), torch.arange(12) % 2
    logits = torch.randn((len(centers), 2), generator=generator)
    found = able(boxes, centers, strides)
    assigned = assign(logits, found, boxes, labels, centers, strides)
    order = torch.randperm(12, generator=generator)
    again = assign(logits, found, boxes[order], labels[order], centers, strides)
    assert torch.equal(torch.where(again >= 0, order[again], again), assigned)
    assert len(assigned.unique()) > 10


def test_without_objects_all_is_background():
    centers, strides = cells(64, 64)
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    logits, boxes = torch.zeros(len(centers), 1), torch.zeros(len(centers), 4)
    found = assign(logits, boxes, *nothing, centers, strides)
    assert found.shape == (len(centers),) and (found == BACKGROUND).all()


def test_scores_are_best_at_the_quality():
    quality = torch.tensor([0.0, 0.3, 0.8, 1.0])
    logits = torch.linspace(-12, 12, 2401)[:, None]
    losses = quality_focal_loss(logits.expand(-1, 4), quality.expand(len(logits), -1))
    best = logits[losses.argmin(0), 0]
    torch.testing.assert_close(best[1:3], quality[1:3].logit(), atol=0.01, rtol=0)
    assert best[0] == -12 and best[3] == 12
    # For 0 and 1 it is the focal loss with the exponent 2.
    p = logits[:, 0].sigmoid()
    torch.testing.assert_close(losses[:, 0], -(p**2) * F.logsigmoid(-logits[:, 0]))
    torch.testing.assert_close(losses[:, 3], -((1 - p) ** 2) * F.logsigmoid(logits[:, 0]))


@pytest.mark.parametrize("distance", [0.0, 0.25, 3.0, 6.7, 10.0])
def test_an_edge_is_best_where_its_mean_is_true(distance):
    lower = min(int(distance), BINS - 2)
    target = torch.zeros(BINS)
    target[lower], target[lower + 1] = lower + 1 - distance, distance - lower
    edges = torch.log(target + 1e-9).requires_grad_()
    loss = distribution_focal_loss(edges, torch.tensor(distance))
    loss.backward()
    torch.testing.assert_close(loss, -torch.xlogy(target, target).sum(), atol=1e-5, rtol=0)
    torch.testing.assert_close(edges.grad, torch.zeros(BINS), atol=1e-5, rtol=0)


def test_edges_out_of_reach_count_as_the_last_bin(generator):
    edges = torch.randn((3, BINS), generator=generator)
    found = distribution_focal_loss(edges, torch.tensor([-2.0, 10, 14]))
    expected = -edges.log_softmax(-1)[torch.arange(3), [0, BINS - 1, BINS - 1]]
    torch.testing.assert_close(found, expected)


def start(images, classes, centers):
    """A prediction that knows nothing, to be optimised itself."""
    logits = torch.full((images, len(centers), classes), -4.6, requires_grad=True)
    return Prediction(logits, torch.zeros((images, len(centers), 4, BINS), requires_grad=True))


def test_the_least_loss_is_at_the_objects():
    centers, strides = cells(128, 128)
    boxes = [
        torch.tensor([[10.0, 20, 50, 90], [60, 10, 120, 60]]),
        torch.zeros(0, 4),
        torch.tensor([[5.0, 5, 125, 120]]),
    ]
    classes = [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.long), torch.tensor([1])]
    prediction = start(3, 3, centers)
    optimizer = torch.optim.Adam(prediction, lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        detection_loss(prediction, boxes, classes, centers, strides).total.backward()
        optimizer.step()
    for image, (truth, labels) in enumerate(zip(boxes, classes, strict=True)):
        scores = prediction.logits[image].sigmoid()
        cell, label = (scores > 0.05).nonzero(as_tuple=True)
        found, scores = decode(prediction.edges[image], centers, strides)[cell], scores[cell, label]
        chosen = suppress(found, scores, label, 0.6, 100)
        order = label[chosen].argsort()
        assert label[chosen][order].tolist() == labels.tolist()
        assert (overlap(found[chosen][order], truth) > 0.9).all() and (scores[chosen] > 0.8).all()


def test_images_without_objects_have_a_loss_too():
    centers, strides = cells(64, 64)
    prediction = start(2, 1, centers)
    empty = [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.long)] * 2
    loss = detection_loss(prediction, *empty, centers, strides)
    loss.total.backward()
    assert loss.quality > 0 and loss.overlap == 0 and loss.edges == 0
    assert (prediction.logits.grad > 0).all()
    assert (prediction.edges.grad == 0).all()


def test_a_batch_is_the_mean_over_all_its_cells(generator):
    """Images with few cells count less: the parts are means over the cells of all objects."""
    centers, strides = cells(96, 96)
    boxes = [torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([[2.0, 2, 90, 90], [50, 50, 80, 80]])]
    classes = [torch.tensor([1]), torch.tensor([0, 1])]
    logits = torch.randn((2, len(centers), 2), generator=generator)
    edges = torch.randn((2, len(centers), 4, BINS), generator=generator)
    both = detection_loss(Prediction(logits, edges), boxes, classes, centers, strides)
    parts, counts, weights = [], [], []
    for i in (0, 1):
        image = Prediction(logits[i, None], edges[i, None])
        parts.append(detection_loss(image, [boxes[i]], [classes[i]], centers, strides))
        found = decode(edges[i], centers, strides)
        mine = assign(logits[i], found, boxes[i], classes[i], centers, strides) >= 0
        counts.append(mine.sum())
        weights.append(logits[i, mine].sigmoid().amax(-1).sum())
    assert counts[0] != counts[1]
    for name, shares in (("quality", counts), ("overlap", weights), ("edges", weights)):
        values = [getattr(part, name) for part in parts]
        expected = sum(v * s for v, s in zip(values, shares, strict=True)) / sum(shares)
        torch.testing.assert_close(getattr(both, name), expected)


def test_the_same_classes_are_still_known(generator):
    old = DetectorBundle(DetectionNetwork(2), DetectorInfo(("a", "b")))
    image = torch.rand((1, 3, 64, 64), generator=generator)
    expected = old.network(image).logits
    assert torch.equal(started_from(old, ("a", "b"))(image).logits, expected)
    assert not torch.equal(started_from(old, ("b", "a"))(image).logits, expected)


def test_training_starts_from_all_but_other_classes(generator):
    old = DetectorBundle(DetectionNetwork(3), DetectorInfo(("a", "b", "c")))
    before = {name: weight.clone() for name, weight in old.network.state_dict().items()}
    network = started_from(old, ("a", "d"))
    image = torch.rand((1, 3, 64, 64), generator=generator)
    new, expected = network(image), old.network(image)
    assert torch.equal(new.edges, expected.edges)
    assert new.logits.shape[-1] == 2 and (new.logits.sigmoid() - 0.01).abs().max() < 0.01
    assert network.training and all(weight.requires_grad for weight in network.parameters())
    for weight in network.parameters():  # a copy: the bundle stays as it is
        weight.data += 1
    assert all(torch.equal(before[name], w) for name, w in old.network.state_dict().items())
