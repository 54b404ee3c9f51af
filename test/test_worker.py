"""Mailbox and Worker: only the newest waits, one thread works, the end is clean."""

import threading
import time

import pytest

from spyropose_ros.ros.node.worker import Mailbox, Worker


def test_a_newer_item_replaces_the_one_that_waits():
    mailbox = Mailbox()
    assert mailbox.put(1) is None
    assert mailbox.put(2) == 1
    assert mailbox.take() == 2
    assert mailbox.put(3) is None
    assert mailbox.close() == 3


def test_close_wakes_the_waiting_thread_and_takes_nothing_more():
    mailbox = Mailbox()
    taken = []
    thread = threading.Thread(target=lambda: taken.append(mailbox.take()))
    thread.start()
    mailbox.close()
    thread.join(5)
    assert taken == [None]
    assert mailbox.put(1) == 1
    assert mailbox.take() is None


def test_slow_work_always_goes_on_with_the_newest_item():
    handled, busy, go_on = [], threading.Event(), threading.Event()

    def handle(item):
        handled.append(item)
        busy.set()
        go_on.wait(5)

    discarded = []
    worker = Worker(lambda: handle, discarded.append, pytest.fail)
    worker.start()
    worker.submit(0)
    assert busy.wait(5)
    for item in range(1, 100):
        worker.submit(item)
    assert discarded == list(range(1, 99))
    go_on.set()
    deadline = time.monotonic() + 5
    while len(handled) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert worker.stop(5)
    assert handled == [0, 99]


def test_items_wait_for_the_preparation_which_runs_in_the_same_thread():
    threads, done, prepared = [], threading.Event(), threading.Event()

    def prepare():
        prepared.wait(5)
        threads.append(threading.current_thread())

        def handle(item):
            threads.append(threading.current_thread())
            done.set()

        return handle

    worker = Worker(prepare, pytest.fail, pytest.fail)
    worker.start()
    worker.submit("frame")
    assert not worker.ready
    prepared.set()
    assert done.wait(5)
    assert worker.ready and worker.stop(5)
    assert threads[0] is threads[1] is not threading.current_thread()


def test_an_error_in_the_preparation_is_reported():
    errors = []

    def prepare():
        raise OSError("no model")

    worker = Worker(prepare, pytest.fail, errors.append)
    worker.start()
    assert worker.stop(5)
    assert [str(error) for error in errors] == ["no model"]
    assert not worker.ready


def test_stop_before_start_and_during_the_preparation():
    assert Worker(lambda: print, pytest.fail, pytest.fail).stop(5)
    begun, finish, handled, discarded = threading.Event(), threading.Event(), [], []

    def prepare():
        begun.set()
        finish.wait(5)
        return handled.append

    worker = Worker(prepare, discarded.append, pytest.fail)
    worker.start()
    worker.submit("frame")
    assert begun.wait(5)
    assert not worker.stop(0.05)
    finish.set()
    assert worker.stop(5)
    assert handled == []
    assert discarded == ["frame"]
    worker.submit("late")
    assert discarded == ["frame", "late"]
