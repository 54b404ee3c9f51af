"""Batches in buckets, as they are computed and, on a GPU, captured."""

import logging

import pytest
import torch

from gpu_tools import needs_gpu
from spyropose_ros.core.kernels.cuda_graphs import BUCKETS, Graphed

DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


class Recorder:
    """Row sums of a, and b doubled; remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, a, b):
        self.calls.append((a.clone() if not a.is_cuda else None, len(b)))
        return a.sum(1), 2 * b


def batch(n, device, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, 3), generator=generator).to(device), torch.arange(n, device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 31, 32, 33, 70])
def test_any_number_of_detections(device, n):
    graphed = Graphed(Recorder())
    for seed in range(3):  # captured, then replayed with other values
        a, b = batch(n, device, seed)
        first, second = graphed(a, b)
        torch.testing.assert_close(first, a.sum(1))
        assert torch.equal(second, 2 * b)


@pytest.mark.parametrize("n", [1, 3, 16, 31])
def test_a_batch_is_filled_up_with_its_last_detection(n):
    recorder = Recorder()
    a, b = batch(n, "cpu")
    Graphed(recorder)(a, b)
    [(seen, size)] = recorder.calls
    assert size == len(seen) == min(bucket for bucket in BUCKETS if bucket >= n)
    assert torch.equal(seen[:n], a)
    assert torch.equal(seen[n:], a[-1:].expand(size - n, 3))


def test_more_than_the_largest_bucket_runs_in_parts():
    recorder = Recorder()
    Graphed(recorder, (2, 4))(*batch(7, "cpu"))
    assert [size for _, size in recorder.calls] == [4, 4]


@needs_gpu
def test_a_capture_is_made_once_per_bucket_on_a_gpu():
    recorder = Recorder()
    graphed = Graphed(recorder, (1, 4))
    for n in (3, 4, 2, 1, 3):
        graphed(*batch(n, "cuda"))
    made = len(recorder.calls)
    for n in (3, 4, 2, 1, 3):
        graphed(*batch(n, "cuda"))
    assert len(recorder.calls) == made
    assert {size for _, size in recorder.calls} == {1, 4}


@needs_gpu
def test_answers_are_not_overwritten_by_the_next_call_on_a_gpu():
    graphed = Graphed(Recorder())
    a, b = batch(4, "cuda", 0)
    first, _ = graphed(a, b)
    graphed(*batch(4, "cuda", 1))
    torch.testing.assert_close(first, a.sum(1))


@needs_gpu
def test_what_cannot_be_captured_runs_on_a_gpu_all_the_same(caplog):
    def decides(a):
        return (a.sum(1) if float(a[0, 0]) < 2 else a[:, 0],)

    graphed = Graphed(decides)
    with caplog.at_level(logging.WARNING):
        for seed in range(3):
            a, _ = batch(4, "cuda", seed)
            torch.testing.assert_close(graphed(a)[0], a.sum(1))
    assert len(caplog.records) == 1
    assert "no CUDA graphs" in caplog.text
