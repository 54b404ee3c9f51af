"""What the machine has: `python -m benchmarks.accelerator.machine DEVICE`.

Fails where a GPU is asked for and PyTorch finds none.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import torch


def main() -> None:
    """See the module's text."""
    device = torch.device(sys.argv[1])
    if shutil.which("nvidia-smi"):
        subprocess.run(["nvidia-smi"], check=False)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} finds no GPU")
    torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device)).sum().item()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    facts = [name, f"{len(os.sched_getaffinity(0))} cores", f"Python {platform.python_version()}"]
    facts += [f"torch {torch.__version__}", _triton()]
    print(", ".join(facts))


def _triton() -> str:
    """Return Triton's version, and what it lacks to compile the code that starts its kernels."""
    if importlib.util.find_spec("triton") is None:
        return "no Triton"
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    lacks = ["a C compiler"] * (not compiler) + ["Python.h"] * (not headers.is_file())
    version = f"Triton {metadata.version('triton')}"
    return f"{version} without {' and '.join(lacks)}" if lacks else version


if __name__ == "__main__":
    main()
