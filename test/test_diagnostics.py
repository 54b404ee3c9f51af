"""Drops are counted exactly and logged without flooding."""

import threading

import pytest
from rclpy.logging import get_logger

from spyropose_ros.ros.pipeline.drops import DropCounter, Reason
from spyropose_ros.ros.pipeline.stamps import too_old


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_each_reason_is_logged_once_per_period_with_its_total(clock):
    warnings, notes = [], []
    drops = DropCounter(warnings.append, notes.append, period=5.0, clock=clock)
    for _ in range(3):
        drops.add(Reason.UNMATCHED, "raise sync.slop")
    drops.add(Reason.BAD_IMAGE, "publish rgb8")
    assert warnings == [
        "dropped (unmatched, 1 so far): raise sync.slop",
        "dropped (bad image, 1 so far): publish rgb8",
    ]
    clock.now = 5.0
    drops.add(Reason.UNMATCHED, "raise sync.slop")
    assert warnings[2:] == ["dropped (unmatched, 4 so far): raise sync.slop"]
    assert notes == []
    assert drops.counts() == {Reason.UNMATCHED: 4, Reason.BAD_IMAGE: 1}
    assert drops.summary() == "unmatched 4, bad image 1"


def test_drops_between_two_log_lines_are_shown_for_debugging(clock):
    lines, details = [], []
    drops = DropCounter(lines.append, lines.append, clock=clock, debug=details.append)
    for text in ("first", "second"):
        drops.add(Reason.STALE, text)
    assert lines == ["dropped (stale, 1 so far): first"]
    assert details == ["dropped (stale, 2 so far): second"]


def test_several_drops_may_be_counted_at_once(clock):
    drops = DropCounter(lambda text: None, lambda text: None, clock=clock)
    drops.add(Reason.TIME_JUMP, "cleared", 3)
    assert drops.counts() == {Reason.TIME_JUMP: 3}


def test_routine_drops_are_no_warnings(clock):
    warnings, notes = [], []
    drops = DropCounter(warnings.append, notes.append, clock=clock)
    drops.add(Reason.BUSY, "newest is used")
    assert (warnings, len(notes)) == ([], 1)


def test_rclpys_logger_takes_warnings_and_notes_in_turn(clock, capfd):
    logger = get_logger("test_diagnostics")
    drops = DropCounter(logger.warning, logger.info, clock=clock)
    for reason in (Reason.BUSY, Reason.STALE, Reason.LOW_SCORE):
        drops.add(reason, "text")
    output = "".join(capfd.readouterr())
    assert [output.count(level) for level in ("[INFO]", "[WARN]")] == [2, 1]


def test_counts_survive_concurrent_use(clock):
    drops = DropCounter(lambda text: None, lambda text: None, clock=clock)

    def work():
        for _ in range(2000):
            drops.add(Reason.STALE, "late")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drops.counts() == {Reason.STALE: 8000}


@pytest.mark.parametrize(
    ("age", "max_age", "ready", "reason"),
    [
        (0.4, 0.5, 60, None),
        (9.0, 0.0, 60, None),
        (float("nan"), 0.5, 60, None),  # simulated time has not begun
        (0.6, 0.5, 60, Reason.STALE),
        (2.0, 0.5, 1.0, Reason.BUSY),  # taken before the models were there
        (0.6, 0.5, 1.0, Reason.STALE),
        (60.0, 0.5, 1.0, Reason.STALE),  # taken before the loading began
        (7.0, 0.5, 6.0, Reason.STALE),  # clocks that differ are not hidden for long
    ],
)
def test_what_waited_for_the_models_is_not_blamed_on_clocks(age, max_age, ready, reason):
    """They took ten seconds."""
    found = too_old(age, max_age, ready + 10, ready)
    assert (found and found[0]) == reason
    assert (reason is Reason.STALE) == (found is not None and "synchronise the clocks" in found[1])
