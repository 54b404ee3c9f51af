"""Work through a queue of trainings: `python -m training.campaign`.

Every entry is trained, evaluated, calibrated and evaluated again; runs/<name> holds all of it, with
the output in campaign.log, and runs/campaign.md the results of all entries. Whatever ends a
campaign, the same command goes on where it was: what an entry has done follows from its files. A
campaign takes one core, at a low priority.
"""

import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import yaml

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.files import write_text
from training import cli
from training.campaign.queue import Entry, EntryRun, Stage, read_queue
from training.campaign.table import table_text

log = logging.getLogger(__name__)

QUEUE = Path(__file__).parents[1] / "campaign.yaml"

_NICE = 10
_TRIES = 10  # to take the lock
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
_LOG, _ERROR = "campaign.log", "campaign.error"
"""Files of an entry: its commands and their output; why it failed, in a line."""


class Lock:
    """File lock of a campaign that states what it does while one of its processes lives.

    Args:
        directory: of the runs.
    """

    def __init__(self, directory: Path):
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / "campaign.lock").open("a+")

    @property
    def number(self) -> int:
        """Descriptor, which children inherit."""
        return self._file.fileno()

    def take(self) -> bool:
        """Try to take the lock; tell whether that worked."""
        for _ in range(_TRIES):  # whoever looks at it holds it for a moment
            with suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.note()
                return True
            time.sleep(0.05)
        return False

    def release(self) -> None:
        """Release the lock to another process."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def holder(self) -> dict:
        """Return process, entry and stage of the campaign that runs; empty where none does."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            return yaml.safe_load(self._file.read()) or {"pid": None}
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return {}

    def note(self, entry: str | None = None, stage: str | None = None) -> None:
        """Record what the campaign does."""
        self._file.truncate(0)
        self._file.write(yaml.safe_dump({"pid": os.getpid(), "entry": entry, "stage": stage}))
        self._file.flush()


class Campaign:
    """Works through a queue.

    Args:
        queue: file of the entries, read again between them.
        directory: of the runs.
        table: another file for the results; None for none.
        lock: held.
    """

    def __init__(self, queue: Path, directory: Path, table: Path | None, lock: Lock):
        self._queue = queue
        self._directory = directory
        self._tables = [directory / "campaign.md", *([table] if table else [])]
        self._lock = lock
        self._child: subprocess.Popen | None = None
        self._stopped = 0

    def stop(self, number: int, _) -> None:
        """Handle a signal: end the current work, which keeps what it has done."""
        self._stopped = number
        if self._child is not None:
            self._child.terminate()

    def work(self) -> int:
        """Work until the queue is done or a signal comes.

        Returns:
            Number of that signal, or 0.
        """
        entries, tried = read_queue(self._queue), []
        while not self._stopped:
            self._lock.note()
            entry = next((e for e in entries if e not in tried and self._stage(e)), None)
            self._write_tables(entries)
            if entry is None:
                break
            tried.append(entry)
            self._do(entry)
            try:
                entries = read_queue(self._queue)
            except (OSError, ValueError) as error:
                log.info("%s; continuing with the previous queue", error)
        self._write_tables(entries)
        log.info("%s; results: %s", "stopped" if self._stopped else "done", self._tables[0])
        return self._stopped

    def _stage(self, entry: Entry) -> Stage | None:
        return EntryRun(entry, self._directory / entry.name).next_stage()

    def _write_tables(self, entries: list[Entry]) -> None:
        text = page(entries, self._directory, {})
        for path in self._tables:
            write_text(path, text)

    def _do(self, entry: Entry) -> None:
        """Run all stages of an entry, or those up to the one that fails."""
        directory, last = self._directory / entry.name, None
        directory.mkdir(exist_ok=True)
        error = directory / _ERROR
        error.unlink(missing_ok=True)
        while (stage := self._stage(entry)) and not self._stopped:
            again = stage.name == last
            problem = "left nothing" if again else self._run(entry, stage, directory / _LOG)
            last = stage.name
            if problem and not self._stopped:
                error.write_text(f"{stage.name}: {problem}\n")
                log.info("%s failed in its %s: %s", entry.name, stage.name, problem)
                return
        if not stage:
            log.info("%s is finished", entry.name)

    def _run(self, entry: Entry, stage: Stage, output: Path) -> str | None:
        """Run a command with its output in a file; return the problem in one line, if any."""
        log.info("%s: %s", entry.name, stage.name)
        self._lock.note(entry.name, stage.name)
        with output.open("a") as file:
            file.write(f"$ {' '.join(stage.command)}\n")
            file.flush()
            self._child = subprocess.Popen(
                stage.command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | _ONE_THREAD,
                start_new_session=True,  # a signal for the campaign reaches it through the campaign
                pass_fds=[self._lock.number],
                preexec_fn=cli.end_with_parent,
            )
            if self._stopped:  # while it was started
                self._child.terminate()
            status = self._child.wait()
        self._child = None
        if status == 0:
            return None
        return last_line(output) if status > 0 else f"killed by {signal.Signals(-status).name}"


def last_line(path: Path) -> str:
    """Return the last line of a log, whose progress bars return to the start of their line."""
    if not path.is_file():
        return ""
    lines = [line for line in re.split(r"[\r\n]", path.read_text(errors="replace")) if line.strip()]
    return lines[-1].strip() if lines else ""


def page(entries: list[Entry], directory: Path, holder: dict) -> str:
    """Tabulate the results of a queue.

    Args:
        entries: of the queue.
        directory: of the runs.
        holder: of the lock, whose entry runs.

    Returns:
        Markdown, see `table_text`.
    """
    runs = [EntryRun(entry, directory / entry.name) for entry in entries]
    states = {run.entry.name: _state(run, holder) for run in runs}
    return table_text(runs, states)


def _state(run: EntryRun, holder: dict) -> str:
    if holder.get("entry") == run.entry.name:
        return holder["stage"]
    if run.next_stage() is None:
        return "finished"
    error = run.directory / _ERROR
    if error.is_file():
        return f"failed: {error.read_text().strip()}"
    return "begun" if run.directory.is_dir() else "waiting"


def campaign(
    queue: str = str(QUEUE),
    runs: str = "runs",
    table: str | None = None,
    status: bool = False,
    background: bool = False,
    stop: bool = False,
) -> None:
    """Work through a queue of trainings with their evaluations.

    Args:
        queue: YAML file of the entries.
        runs: folder of all runs.
        table: also write the table of results to this file.
        status: only print the table and what is running.
        background: leave the terminal; --stop ends it.
        stop: end the campaign that runs, after its current step; it goes on when started again.

    Raises:
        InputError: a campaign is already running, or there is none to stop.
        SystemExit: a signal has ended the campaign.
    """
    directory = Path(runs)
    lock = Lock(directory)
    if status:
        _print_status(read_queue(Path(queue)), directory, lock.holder())
    elif stop:
        _stop(lock)
    elif not lock.take():
        raise InputError(f"a campaign is already running: {_describe(directory, lock.holder())}")
    elif background:
        read_queue(Path(queue))  # its mistakes belong on the terminal
        _detach(
            lock,
            directory,
            ["--queue", queue, "--runs", runs, *(["--table", table] if table else [])],
        )
    else:
        os.nice(_NICE)
        work = Campaign(Path(queue), directory, Path(table) if table else None, lock)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, work.stop)
        if ended_by := work.work():
            raise SystemExit(128 + ended_by)


def _print_status(entries: list[Entry], directory: Path, holder: dict) -> None:
    print(page(entries, directory, holder))
    print(f"running: {_describe(directory, holder)}" if holder else "nothing is running")


def _describe(directory: Path, holder: dict) -> str:
    """Describe what runs, with the last line of its log."""
    if not holder.get("entry"):
        return f"process {holder.get('pid')}"
    run = directory / holder["entry"]
    progress = last_line(run / ("log.txt" if holder["stage"] == "training" else _LOG))
    return f"{holder['entry']}, {holder['stage']} (process {holder['pid']}). {progress}"


def _stop(lock: Lock) -> None:
    holder = lock.holder()
    if not holder:
        raise InputError("no campaign is running")
    with suppress(ProcessLookupError):  # killed, and its last command is about to end
        os.kill(holder["pid"], signal.SIGTERM)
    while lock.holder():
        time.sleep(0.2)
    log.info("stopped")


def _detach(lock: Lock, directory: Path, arguments: list[str]) -> None:
    """Start a campaign of its own, and wait until it holds the lock."""
    lock.release()
    output = directory / _LOG
    command = [sys.executable, "-m", "training.campaign", *arguments]
    with output.open("a") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    while process.poll() is None and lock.holder().get("pid") != process.pid:
        time.sleep(0.2)
    log.info("process %d; its log is %s", process.pid, output)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%d %b %H:%M")
    cli.run(campaign, kept="what is done is kept: the same command goes on")
