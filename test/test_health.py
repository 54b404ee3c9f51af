"""What the node says of itself: counts, timings, the verdict, and why nothing comes."""

import math
import re
import threading

import pytest

from spyropose_ros.ros.node.health import (
    Activity,
    Level,
    State,
    Verdict,
    Work,
    drop_values,
    explain_silence,
)
from spyropose_ros.ros.pipeline.drops import Reason


def test_counts_survive_concurrent_use():
    activity = Activity()

    def work():
        for _ in range(2000):
            activity.receive("image")
            activity.match(1)
            activity.publish(Work(2, 0.0, 0.0, 0.0))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = activity.counts()
    assert counts.received == {"image": 8000}
    assert (counts.matched, counts.processed, counts.published) == (8000, 16000, 8000)


def test_timings_are_medians_of_the_last_results():
    now = [0.0]
    activity = Activity(clock=lambda: now[0])
    assert activity.timings() == {}
    for index in range(300):  # only the last 100 count
        now[0] += 0.1
        activity.publish(Work(1, 0.001 * index, 0.002 * index, 0.003 * index))
    timings = activity.timings()
    assert timings["age at start (ms, median / 95 %)"] == "250 / 295"
    assert timings["inference (ms, median / 95 %)"] == "499 / 590"
    assert timings["latency (ms, median / 95 %)"] == "748 / 885"
    assert float(timings["publish rate (Hz)"]) == pytest.approx(10, rel=0.02)


def test_presences_are_summed_up_where_the_model_tells():
    activity = Activity(clock=lambda: 1.0)
    activity.publish(Work(1, 0.0, 0.0, 0.0, presences=[math.nan]))
    assert not any("presence" in key for key in activity.timings())
    activity.publish(Work(1, 0.0, 0.0, 0.0, presences=[0.9, 0.3, math.nan]))
    assert activity.timings()["presence (mean, lowest)"] == "0.60, 0.30"


def test_the_verdict_follows_what_happened_in_the_last_seconds():
    verdict, drops = Verdict(), {}
    assert verdict.judge(State.LOADING, drops, 0) == (Level.WARN, "loading the models")
    assert verdict.judge(State.RUNNING, drops, 1) == (Level.OK, "running")
    drops[Reason.BUSY] = 7
    assert verdict.judge(State.RUNNING, drops, 2) == (Level.OK, "running")
    drops[Reason.BAD_IMAGE] = 2
    assert verdict.judge(State.RUNNING, drops, 3) == (Level.WARN, "in the last 5 s: bad image 2")
    drops[Reason.ERROR] = 1
    assert verdict.judge(State.RUNNING, drops, 4)[0] == Level.ERROR
    for published in range(5, 10):
        level, text = verdict.judge(State.RUNNING, drops, published)
    assert (level, text) == (Level.OK, "running")
    for seconds in range(1, 301):
        level, text = verdict.judge(State.RUNNING, drops, 9)
        silent = (Level.WARN, f"nothing published for {seconds} s")
        assert (level, text) == (silent if seconds >= 5 else (Level.OK, "running"))
    assert verdict.judge(State.DISABLED, drops, 9) == (Level.OK, "disabled")


def test_impairments_are_told_from_drops():
    values = drop_values({Reason.BUSY: 3, Reason.NO_DEPTH: 1})
    assert values == {"dropped: busy": "3", "impaired: no depth image": "1"}


@pytest.mark.parametrize(
    "received, publishers, remedy",
    [
        ({"/image": 0, "/boxes": 3}, {"/image": 0, "/boxes": 1}, "start a publisher of /image"),
        ({"/image": 0, "/boxes": 3}, {"/image": 1, "/boxes": 1}, "check .* qos.reliability"),
        ({"/image": 2, "/boxes": 3}, {"/image": 1, "/boxes": 1}, "drops so far: stale 2"),
    ],
)
def test_silence_names_what_arrived_and_the_remedy(received, publishers, remedy):
    text = explain_silence(5.0, received, publishers, "stale 2")
    assert f"{received['/image']} on /image ({publishers['/image']} publishers)" in text
    assert "3 on /boxes" in text
    assert re.search(remedy, text)
