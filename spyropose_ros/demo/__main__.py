"""The demo: `./run demo`, `./run demo lmo`, `./run demo runs/my_part`, `./run demo next-view`.

Starts a camera, the estimator node with its detector, and a summary as separate processes on one
ROS 2 graph, shows a table that grows with every frame, and writes figures and numbers at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys
import time
import webbrowser
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Thread

from spyropose_ros.core import interrupts
from spyropose_ros.demo.plan import (
    ANNOTATIONS,
    NEXT_VIEW,
    OWN,
    RULE,
    SHIPPED,
    Model,
    box_source,
    next_view_parameters,
    output_folder,
    parameters,
    share_folder,
    shipped_model,
)
from spyropose_ros.demo.processes import Process, python_command, stop_all

_MODULES = {
    "estimator": "spyropose_ros.ros.node.estimator_node",
    "demo_camera": "spyropose_ros.demo.camera",
    "demo_detector": "spyropose_ros.demo.detector",
    "demo_summary": "spyropose_ros.demo.summary",
    "demo_next_view": "spyropose_ros.demo.next_view",
}
_HOST = "127.0.0.1"
_LAST = ("demo_summary", "demo_next_view")  # what speaks to the user, and ends the demo
_VERDICTS = {0: 0, 2: 1}  # exit codes of the last process that are a verdict -> of the demo
_HELP = "see Troubleshooting in README.md, or run ./run node for the estimator alone"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Args:
        arguments: Of the command line; sys.argv by default.

    Returns:
        The exit code: 0 if the demo passed, see RULE; 130 after Ctrl-C; else 1.
    """
    args = _parser().parse_args(arguments)
    try:
        next_view = args.demo == NEXT_VIEW
        demo = "mug" if next_view else args.demo
        model = Model.read(args.model or (shipped_model(demo) if demo in SHIPPED else demo))
        folder = "demo_output/next_view" if next_view else output_folder(model)
        output = Path(args.output or folder)
        logs = output / "log"
        logs.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if next_view:
        settings = next_view_parameters(model, args.device, str(output))
    else:
        given = args.frames, args.device, str(output), args.data, args.detector
        settings = parameters(model, *given)
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes: dict[str, Process] = {}
    try:
        interrupts.expect()
        print(f"Demo of {model.directory}: starting {_listed(settings)}.")
        print(_boxes(model, ANNOTATIONS if next_view else args.detector))
        print(f"It takes about {_minutes(model)} on two cores, half a minute of it for the start.")
        print(f"Their logs are in {logs}. Ctrl-C stops all. Loading the model ...\n", flush=True)
        for name, module in _MODULES.items():
            if name not in settings:
                continue
            log = logs / f"{name.removeprefix('demo_')}.log"
            command = python_command(module, settings[name])
            processes[name] = Process(log.stem, command, log, show=name in _LAST)
        if args.rviz:
            _start_rviz(processes, logs)
        if args.view:
            _start_viewer(processes, logs)
        code = _watch(processes, args.timeout)
        if args.view and sys.stdin.isatty():
            input("The viewer keeps the last frames. Enter ends it. ")
        return code
    except KeyboardInterrupt:
        print("\nInterrupted: stopping all processes ...", flush=True)
        return interrupts.EXIT_CODE
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must leave no orphans
        stop_all(list(processes.values()))


def _watch(processes: dict[str, Process], timeout: float) -> int:
    """Wait for the summary; return the exit code."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        time.sleep(0.1)
        (last,) = (processes[name] for name in _LAST if name in processes)
        code = last.exit_code
        if code in _VERDICTS:
            return _VERDICTS[code]
        for name in filter(processes.__contains__, _MODULES):
            process = processes[name]
            if process.exit_code is None or (name == "demo_camera" and process.exit_code == 0):
                continue
            print(f"\n{process.describe_end()}", file=sys.stderr)
            print(f"If that does not help: {_HELP}", file=sys.stderr)
            return 1
    print(f"\ndemo: not finished after {timeout:g} s: see --timeout", file=sys.stderr)
    return 1


def _listed(processes: Iterable[str]) -> str:
    """Return the names of the processes, for the user."""
    *others, last = sorted(name.removeprefix("demo_").replace("_", " ") for name in processes)
    return f"{', '.join(others)} and {last}"


def _boxes(model: Model, given: str) -> str:
    """Say where the boxes come from."""
    source = box_source(model, given)
    if source != ANNOTATIONS:
        return f"The estimator finds the boxes itself, by the detector in {source}."
    reason = ": this model has no detector" if given == OWN else ""
    return f"The boxes are the true ones with the errors of a simulated detector{reason}."


def _minutes(model: Model) -> str:
    return "three minutes" if model.has_photographs else "a minute"


def _start_rviz(processes: dict[str, Process], logs: Path) -> None:
    """Open RViz if it is installed, in a frame that follows the results."""
    if shutil.which("rviz2") is None:
        print("RViz is not installed (no rviz2): the demo continues without it.\n", flush=True)
        return
    commands = {
        "rviz": ["rviz2", "-d", str(share_folder() / "config" / "spyropose.rviz")],
        "rviz_frame": python_command("spyropose_ros.ros.node.rviz_frame", {}),
    }
    for name, command in commands.items():
        processes[name] = Process(name, command, logs / f"{name}.log")


def _start_viewer(processes: dict[str, Process], logs: Path) -> None:
    """Start the viewer, and open the browser at it where there is a screen."""
    from spyropose_ros.core.plots.scene import import_viser  # here: it takes seconds

    import_viser()
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port = probe.getsockname()[1]
    command = python_command("spyropose_ros.viewer.node", {"host": _HOST, "port": port})
    processes["viewer"] = Process("viewer", command, logs / "viewer.log")
    print(f"The viewer will be at http://{_HOST}:{port}.\n", flush=True)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):  # else in this terminal
        Thread(target=_browse, args=(port,), daemon=True).start()


def _browse(port: int) -> None:
    """Open the browser once the viewer listens."""
    while socket.socket().connect_ex((_HOST, port)):
        time.sleep(0.2)
    webbrowser.open(f"http://{_HOST}:{port}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run demo",
        description=__doc__.partition("\n\n")[2],
        epilog=RULE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "demo", nargs="?", default="mug", metavar="mug|lmo|next-view|FOLDER",
        help="a rendered, rotating mug (default), the real LM-O photographs, a camera that looks "
        "at the mug from where it learns most, or a part of your own in the place of the mug: "
        "folder of the run that trained it, or of a bundle",
    )  # fmt: skip
    parser.add_argument("--model", help="folder of another model bundle")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--frames", type=int, default=0, help="number of frames (default: 60, or all photographs)"
    )
    parser.add_argument(
        "--detector", default=OWN, metavar="own|annotations|FOLDER",
        help="where the boxes come from: the detector made for the model, if there is one "
        "(default), the true boxes with simulated errors, or another detector",
    )  # fmt: skip
    parser.add_argument(
        "--output", help="folder for the results (default: demo_output/ and the demo's name)"
    )
    parser.add_argument("--data", default="data", help="folder of the downloaded data sets")
    parser.add_argument("--rviz", action="store_true", help="open RViz as well, if it is installed")
    parser.add_argument(
        "--view", action="store_true", help="show the distributions in a browser as well"
    )
    parser.add_argument(
        "--timeout", type=float, default=1800.0, help="stop after this many seconds"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
