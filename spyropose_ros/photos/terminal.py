"""Pictures in terminals that can show them.

Only the environment says what a terminal can do: asking the terminal itself could block, or leave
its answer on the next prompt.
"""

import base64
from collections.abc import Callable, Mapping
from typing import TextIO

_CHUNK = 4096  # characters of base64 in one of kitty's commands
_KITTY_TERMS = ("xterm-kitty", "xterm-ghostty")
_ITERM_PROGRAMS = ("iTerm.app", "WezTerm", "mintty")


def encoder(stream: TextIO, environment: Mapping[str, str]) -> Callable[[bytes], str] | None:
    """Choose how to show a PNG file in a terminal.

    Args:
        stream: that it is written to.
        environment: variables of the process.

    Returns:
        A function from the file's content to the text that shows it; None where there is no
        terminal, or one that is not known to show pictures.
    """
    term = environment.get("TERM", "")
    multiplexed = "TMUX" in environment or term.startswith(("screen", "tmux"))
    if not stream.isatty() or multiplexed:
        return None
    if term in _KITTY_TERMS:
        return _kitty
    programs = environment.get("TERM_PROGRAM"), environment.get("LC_TERMINAL")
    if programs[0] in _ITERM_PROGRAMS or programs[1] == "iTerm2":
        return _iterm
    return None


def _kitty(png: bytes) -> str:
    """Use kitty's graphics protocol; q=2: the terminal does not answer."""
    text = base64.b64encode(png).decode()
    chunks = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)]
    commands = []
    for index, chunk in enumerate(chunks):
        more = f"m={int(index < len(chunks) - 1)}"
        keys = more if index else f"a=T,f=100,q=2,{more}"
        commands.append(f"\033_G{keys};{chunk}\033\\")
    return "".join(commands)


def _iterm(png: bytes) -> str:
    """Use iTerm2's inline images protocol."""
    text = base64.b64encode(png).decode()
    return f"\033]1337;File=inline=1;size={len(png)}:{text}\007"
