"""The learning rate over a training, and the clock that it may follow."""

import multiprocessing
import time

import pytest

from training.fitting.clock import TrainingClock
from training.fitting.schedule import relative_rate


def test_warm_up_and_cosine():
    assert relative_rate(0, 0.1) == pytest.approx(1e-3)
    assert relative_rate(0.05, 0.1) == pytest.approx(0.5005)
    assert relative_rate(0.1, 0.1) == 1
    assert relative_rate(0.55, 0.1) == pytest.approx(0.5)
    assert relative_rate(1, 0.1) == relative_rate(1.5, 0.1) == 0
    assert relative_rate(0, 0) == 1
    assert relative_rate(0.5, 2) < relative_rate(1, 2) < 1  # stopped while it warms up


def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


def work_and_wait(pipe):
    busy(0.5)
    pipe.send("worked")
    pipe.recv()


def test_the_clock_counts_work_of_this_process_and_its_loaders():
    """Not the time that it waits; also after a loader has ended, and after a restart."""
    clock = TrainingClock()
    assert clock.seconds == (0, 0)
    clock.on_train_start(None, None)
    ours, theirs = multiprocessing.Pipe()
    loader = multiprocessing.get_context("fork").Process(target=work_and_wait, args=(theirs,))
    loader.start()
    busy(0.3)
    ours.recv()
    time.sleep(0.5)
    running = clock.seconds
    assert 0.8 <= running.core < 1.2 and running.wall > running.core
    ours.send("end")
    loader.join()
    assert running.core <= clock.seconds.core < 1.2
    clock.on_train_end(None, None)
    taken = clock.seconds
    busy(0.1)
    assert clock.seconds == taken
    resumed = TrainingClock()
    resumed.load_state_dict(clock.state_dict())
    assert resumed.seconds == taken
    resumed.on_train_start(None, None)
    busy(0.2)
    assert taken.core + 0.2 <= resumed.seconds.core < taken.core + 0.4
