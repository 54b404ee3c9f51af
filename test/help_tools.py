"""What commands answer to --help, and what they import for it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "lightning", "kornia", "transformers", "matplotlib.pyplot"}

# One process for all: what one command has imported, the next does not import again.
PROGRAM = """
import contextlib, io, json, runpy, sys
heavy, *commands = json.loads(sys.argv[1])
for command in commands:
    module, *words = command.split()
    sys.argv, text, code = [module, *words, "--help"], io.StringIO(), None
    with contextlib.redirect_stdout(text):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, text.getvalue(), sorted(sys.modules.keys() & set(heavy))]))
"""


def help_of(commands):
    """Exit code, text and the first heavy imports of each command, by command."""
    commands = list(commands)
    call = [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps([sorted(HEAVY), *commands])]
    shown = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    answers = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(answers) == len(commands), shown.stderr
    return dict(zip(commands, answers, strict=True))


def check_help(answer, words):
    """It names the words, ends well, and has imported nothing heavy."""
    code, text, heavy = answer
    assert code == 0
    assert all(word in text for word in words.split())
    assert not heavy
