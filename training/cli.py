"""Command lines: hyphenated flags, and --flag / --no-flag for what is on or off."""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from jsonargparse import auto_cli

from spyropose_ros.core.bundle import BundleError
from training import provenance


@contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """End the process with "name: what is wrong" where a user can mend it.

    Missing or damaged files, settings that do not go together.
    """
    try:
        yield
    except (OSError, ValueError, BundleError) as error:
        raise SystemExit(f"{name}: {error}") from error


def normalise(
    arguments: Iterable[str], switches: Iterable[str], aliases: Mapping[str, str] = {}
) -> list[str]:
    """Arguments as jsonargparse takes them.

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

    What a user can mend ends the process with one line.

    Args:
        function: with annotated parameters; those without a default are positional.
        arguments: sys.argv by default.

    Returns:
        What the function returns.
    """
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
