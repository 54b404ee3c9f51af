"""Command lines: hyphenated flags, and --flag / --no-flag for what is on or off.

PyTorch and what builds on it take seconds to import. So commands import them inside the functions
that use them: help, wrong flags and missing files are answered at once.
"""

import ctypes
import inspect
import re
import signal
import sys
from argparse import HelpFormatter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from jsonargparse import ArgumentParser, auto_cli

from spyropose_ros.core import interrupts
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.core.one_line import one_line
from training import provenance

_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_STOPPED = 128  # plus the number of the signal: the exit code


class Parser(ArgumentParser):
    """Shows flags as they are typed: --two-words."""

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """Return the help."""
        return _hyphenated(super().format_help(formatter))

    def format_usage(self) -> str:
        """Return the first lines of the help."""
        return _hyphenated(super().format_usage())

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End the process with usage and message."""
        super().error(_hyphenated(message), ex)


def _hyphenated(text: str) -> str:
    return re.sub(r"--\w+", lambda flag: flag[0].replace("_", "-"), text)


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
def one_line_errors(name: str, kept: str = interrupts.NOTHING_KEPT) -> Iterator[None]:
    """End the process with "name: what is wrong" where a user can fix it, and after Ctrl-C.

    Missing or damaged files, settings that do not go together.

    Args:
        name: of the command.
        kept: what becomes of its work after Ctrl-C.
    """
    with interrupts.handled(name, kept):
        try:
            yield
        except Interrupted as stop:
            raise SystemExit(_STOPPED + stop.number) from None
        except (OSError, ValueError, SpyroposeError) as error:
            raise SystemExit(f"{name}: {one_line(error)}") from error


def end_with_parent() -> None:
    """End this child process by SIGTERM when its parent dies, so that it does not work on alone."""
    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGTERM)


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


def run(
    function: Callable, arguments: list[str] | None = None, *, kept: str = interrupts.NOTHING_KEPT
):
    """Call a function with the command line's arguments; its docstring is the help.

    What a user can fix ends the process with one line.

    Args:
        function: with annotated parameters; those without a default are positional.
        arguments: sys.argv by default.
        kept: what becomes of its work after Ctrl-C.

    Returns:
        What the function returns.
    """
    # Else jsonargparse runs the imports that are for type checkers alone.
    function.__annotations__ = inspect.get_annotations(function, eval_str=True)
    parameters = inspect.signature(function).parameters.values()
    switches = [p.name for p in parameters if isinstance(p.default, bool)]
    arguments = sys.argv[1:] if arguments is None else arguments
    with one_line_errors(function.__name__, kept):
        return auto_cli(
            function,
            args=normalise(arguments, switches),
            as_positional=True,
            prog=provenance.program(),
            parser_class=Parser,
        )
