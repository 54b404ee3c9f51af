"""The line that shows a training."""

import io
import logging
from types import SimpleNamespace

import pytest

from training import console
from training.fitting import progress
from training.fitting.progress import Progress


class Clock:
    """Of a training by hours."""

    share = 0.0


class Screen(io.StringIO):
    """Standard error, a terminal or not."""

    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still until it is set."""
    moment = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: moment[0])
    return moment


@pytest.fixture(params=[False, True], ids=["file", "terminal"])
def screen(request, monkeypatch):
    shown = Screen(request.param)
    for module in (console, progress):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=shown))
    return shown


def trainer():
    return SimpleNamespace(global_step=0, is_global_zero=True, callback_metrics={})


def run(shown, trainer, now, steps):
    """Two steps a second."""
    for _ in range(steps):
        now[0] += 0.5
        trainer.global_step += 1
        trainer.callback_metrics["train/loss"] = 2.0
        shown.on_train_batch_end(trainer, None, None, None, 0)


def test_a_training_is_a_line(screen, now, caplog):
    """Drawn once a second on a terminal, logged after the first step and once a minute."""
    caplog.set_level(logging.INFO, "training")
    shown, train = Progress(Clock(), 1000, images=16), trainer()
    shown.on_train_start(train, None)
    run(shown, train, now, 250)
    lines = [record.message for record in caplog.records]
    assert lines == [
        "step 1, 0.1%, loss 2.000",
        "step 121, 12.1%, 7 min left, 32.0 images/s, loss 2.000",
        "step 241, 24.1%, 6 min left, 32.0 images/s, loss 2.000",
    ]
    shown.on_train_end(train, None)
    drawn = screen.getvalue()
    if screen.isatty():
        assert drawn.count("\r") == 125 and drawn.count("\n") == 1 and drawn.endswith("\n")
        assert drawn.splitlines()[-1].endswith("loss 2.000\x1b[K")
    else:
        assert drawn == ""


def test_the_time_left_is_told_when_it_is_known(now, caplog):
    """Neither the start of the loaders nor a few first steps tell it."""
    caplog.set_level(logging.INFO, "training")
    shown, train = Progress(Clock(), 1000, images=16), trainer()
    shown.on_train_start(train, None)
    now[0] += 120
    run(shown, train, now, 38)
    assert "left" not in shown._line() and shown._line().endswith("32.0 images/s, loss 2.000")
    run(shown, train, now, 4)
    assert "8 min left" in shown._line()


def test_hours_and_validations(now, caplog):
    caplog.set_level(logging.INFO, "training")
    clock, train = Clock(), trainer()
    shown = Progress(clock, 0, images=4)
    shown.on_train_start(train, None)
    run(shown, train, now, 1)
    train.global_step = 101
    train.callback_metrics = {"val/ll_gain_0": 1.25, "val/ll_gain_1": 2.5, "val/ll_gain": 2.5}
    module = SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(depth=2)))
    shown.on_validation_end(train, module)
    now[0] += 60
    clock.share = 0.01
    shown.on_train_batch_end(train, None, None, None, 0)
    assert [record.message for record in caplog.records] == [
        "step 1, 0.0%, loss 2.000",
        "step 101: validation LL 1.25 2.50",
        "step 101, 1.0%, 1 h 39 min left, 6.7 images/s, loss 2.000, LL 2.50",
    ]


def test_the_console_leaves_the_line_to_a_terminal(screen):
    handler = console.console()
    for name in ("training.fitting.progress", "x"):
        handler.handle(logging.makeLogRecord({"name": name, "msg": name}))
    shown = screen.getvalue().split()
    assert shown == (["x"] if screen.isatty() else ["training.fitting.progress", "x"])
