"""Origin of a result: version, commit, hardware, command."""

import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def package_version() -> str:
    """Return the installed version, or package.xml's when running from the source tree."""
    try:
        return metadata.version("spyropose_ros")
    except metadata.PackageNotFoundError:
        manifest = (_ROOT / "package.xml").read_text()
        found = re.search(r"<version>(.+?)</version>", manifest)
        assert found is not None
        return found[1]


def git_commit() -> str:
    """Return the source tree's short hash, with "+" when it was changed; "unknown" outside git."""
    try:
        call = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty=+"]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def hardware(device: str = "cpu") -> str:
    """Return processor or GPU by name, threads, torch version."""
    import torch

    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    else:
        cpuinfo = Path("/proc/cpuinfo")
        text = cpuinfo.read_text() if cpuinfo.is_file() else ""
        found = re.search(r"model name\s*:\s*(.+)", text)
        name = found[1] if found else platform.machine()
        name += f", {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"


def program() -> str:
    """Return how this process was started, without its arguments."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else f"python {sys.argv[0]}"


def command() -> str:
    """Return the command line of this process."""
    return f"{program()} {shlex.join(sys.argv[1:])}".strip()
