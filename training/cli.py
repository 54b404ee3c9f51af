"""Command lines: hyphenated flags, and --flag / --no-flag for what is on or off.

PyTorch and what builds on it take seconds to import. So commands import them inside the functions
that use them: help, wrong flags and missing files are answered at once.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType

from jsonargparse import auto_cli

from spyropose_ros.core.errors import SpyroposeError
from training import provenance
from training.one_line import one_line

_STOPPED = 128  # plus the number of the signal: the exit code


class Interrupted(Exception):
    """A signal ended the training after a checkpoint.

    Args:
        number: of the signal.
        steps: in the checkpoint.
    """

    def __init__(self, number: int, steps: int):
        super().__init__(f"stopped by {signal.Signals(number).name} after {steps} steps")
        self.number = number


@contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """End the process with "name: what is wrong" where a user can fix it, and after Ctrl-C.

    Missing or damaged files, settings that do not go together.
    """
    former = signal.getsignal(signal.SIGINT)
    if former is signal.default_int_handler:  # in the background it is to be ignored
        signal.signal(signal.SIGINT, partial(_interrupt, name))
    try:
        yield
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        raise SystemExit(_STOPPED + signal.SIGINT) from None
    except Interrupted as stop:
        raise SystemExit(_STOPPED + stop.number) from None
    except (OSError, ValueError, SpyroposeError) as error:
        raise SystemExit(f"{name}: {one_line(error)}") from error
    finally:
        signal.signal(signal.SIGINT, former)


def _interrupt(name: str, number: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C: an import ends the process at once, as some swallow the exception."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"{name}: interrupted\n".encode())
            os._exit(_STOPPED + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def normalise(
    arguments: Iterable[str], switches: Iterable[str], aliases: Mapping[str, str] = {}
) -> list[str]:
    """Rewrite arguments as jsonargparse takes them.

    Args:
        arguments: of the command line.
        switches: names of the parameters that are on or off.
        aliases: other names of flags, and what they stand for ("--no-is": "--importance-sampling
            =false").

    Returns:
        "--two-words" as "--two_words", "--switch" as "--switch=true", "--no-switch" as
        "--switch=false"; everything else as it is.
    """
    switches = set(switches)
    out = []
    for argument in arguments:
        if not argument.startswith("--") or argument == "--":
            out.append(argument)
            continue
        flag, equals, value = argument.partition("=")
        flag, more, preset = aliases.get(flag, flag).partition("=")
        name = flag[2:].replace("-", "_")
        if more:
            out.append(f"--{name}={preset}")
        elif name in switches and not equals:
            out.append(f"--{name}=true")
        elif name.removeprefix("no_") in switches and name.startswith("no_"):
            out.append(f"--{name.removeprefix('no_')}=false")
        else:
            out.append(f"--{name}{equals}{value}")
    return out


def run(function: Callable, arguments: list[str] | None = None):
    """Call a function with the command line's arguments; its docstring is the help.

    What a user can fix ends the process with one line.

    Args:
        function: with annotated parameters; those without a default are positional.
        arguments: sys.argv by default.

    Returns:
        What the function returns.
    """
    # Else jsonargparse runs the imports that are for type checkers alone.
    function.__annotations__ = inspect.get_annotations(function, eval_str=True)
    parameters = inspect.signature(function).parameters.values()
    switches = [p.name for p in parameters if isinstance(p.default, bool)]
    arguments = sys.argv[1:] if arguments is None else arguments
    with one_line_errors(function.__name__):
        return auto_cli(
            function,
            args=normalise(arguments, switches),
            as_positional=True,
            prog=provenance.program(),
        )
