"""Parts of a computation on several threads: same results, same errors, nothing left changed."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from spyropose_ros.core.kernels.threads import parts_in_parallel, run


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_from_as_many_threads_as_pytorch_had(three_threads):
    meeting = threading.Barrier(3, timeout=30)  # passes only three threads at once

    def part(i):
        if i < 3:
            meeting.wait()
        return i * i, torch.get_num_threads()

    with parts_in_parallel():
        assert torch.get_num_threads() == 1
        assert run(part, range(50)) == [(i * i, 1) for i in range(50)]
    assert torch.get_num_threads() == 3


def test_outside_there_is_one_thread(three_threads):
    assert run(lambda _: threading.get_ident(), range(9)) == [threading.get_ident()] * 9


def test_nested_use_changes_nothing(three_threads):
    with parts_in_parallel():
        with parts_in_parallel():
            assert run(lambda i: run(lambda j: i + j, range(3)), range(2)) == [[0, 1, 2], [1, 2, 3]]
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("failing", ["caller", "helper"])
def test_an_error_of_any_thread_is_raised_and_ends_the_work(three_threads, failing):
    caller, meeting, done = threading.get_ident(), threading.Barrier(3, timeout=30), []

    def part(i):
        if i < 3:
            meeting.wait()
            if (threading.get_ident() == caller) == (failing == "caller"):
                raise IndexError("a part's own")
            return
        done.append(i)
        threading.Event().wait(0.01)

    with pytest.raises(IndexError, match="a part's own"), parts_in_parallel():
        run(part, range(100))
    assert len(done) < 99 or failing == "helper"  # the caller goes on without its helpers
    assert torch.get_num_threads() == 3
    with parts_in_parallel():
        assert run(abs, [-1, -2, -3]) == [1, 2, 3]


@pytest.mark.parametrize("inference", [False, True])
def test_helpers_are_in_the_mode_of_the_caller(three_threads, inference):
    meeting, weight = threading.Barrier(3, timeout=30), torch.ones(2, requires_grad=True)

    def part(_):
        meeting.wait()
        return 2 * weight

    with torch.no_grad(), torch.inference_mode(inference), torch.no_grad(), parts_in_parallel():
        results = run(part, range(3))
    assert [x.is_inference() for x in results] == [inference] * 3
    assert not any(x.requires_grad for x in results)


def test_a_thread_that_starts_later_has_all_threads(three_threads):
    with parts_in_parallel():
        run(abs, range(10))
    counts = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert counts == [3]


FORK = """
import os, torch
from spyropose_ros.core.kernels.threads import run, parts_in_parallel
torch.set_num_threads(3)
for _ in range(3):
    with parts_in_parallel():
        assert run(abs, range(30)) == list(range(30))
child = os.fork()
with parts_in_parallel():
    assert run(abs, range(30)) == list(range(30))
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("both")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_has_threads_of_its_own():
    finished = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120
    )
    assert finished.stdout == "both\n", finished.stderr
