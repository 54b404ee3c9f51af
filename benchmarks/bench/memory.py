"""Peak memory of one search above what is there before it: `python -m benchmarks.bench.memory`.

On a GPU as PyTorch counts it. On a CPU the growth of the resident set, in a process of its own:
`peaks` starts it.
"""

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.bench.baselines import REFERENCE, deeper
from benchmarks.bench.networks import Crops, Scene, open_estimator, open_network, search_features
from spyropose_ros.core.estimator import SearchSettings
from spyropose_ros.core.reference import ReferenceSearch

_STATUS = Path("/proc/self/status")


def peaks(
    names: Sequence[str],
    network: str,
    device: torch.device,
    settings: SearchSettings,
    depth: int | None,
    data_root: str,
) -> dict[str, float | None]:
    """Return the peak megabytes of searches above the weights; None if the system does not tell.

    Args:
        names: REFERENCE, or anything else for this search.
        network: see `open_network`.
        device: where.
        settings: of this search.
        depth: of the network; its own by default.
        data_root: where data sets lie.
    """
    if device.type != "cuda" and not _STATUS.is_file():
        return dict.fromkeys(names)
    job = [names, network, str(device), asdict(settings), depth, data_root]
    command = [sys.executable, "-m", __name__, json.dumps([*job, torch.get_num_threads()])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    names: Sequence[str],
    network: str,
    device_name: str,
    settings: dict,
    depth: int | None,
    data_root: str,
    threads: int,
) -> dict[str, float]:
    """Measure megabytes by name in this process, which should have done nothing else.

    Args:
        names: as for `peaks`.
        network: as for `peaks`.
        device_name: where.
        settings: values of `SearchSettings`.
        depth: as for `peaks`.
        data_root: as for `peaks`.
        threads: of PyTorch.
    """
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    bundle = deeper(open_network(network), depth)
    estimator = open_estimator(bundle, device, SearchSettings(**settings))
    seen = Crops.of(estimator, Scene.of(bundle, data_root))
    small = open_estimator(bundle, device, SearchSettings(1, depth=1))
    search_features(small, seen)  # libraries are loaded now

    def reference():
        # Its tables are part of what it needs beyond the weights
        made = ReferenceSearch(bundle, device=device)
        made.search_features(seen.features, seen.K_crop, seen.box)

    def ours():
        search_features(estimator, seen)

    growth = _device_growth if device.type == "cuda" else _resident_growth
    return {name: growth(reference if name == REFERENCE else ours, device) for name in names}


def _device_growth(search: Callable[[], None], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    search()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def _resident_growth(search: Callable[[], None], _device: torch.device) -> float:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work left free would hide what is needed
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _kilobytes("VmRSS")
    search()
    return (_kilobytes("VmHWM") - before) * 1024 / 1e6


def _kilobytes(field: str) -> int:
    """Return a field of this process's status, in units of 1024 bytes."""
    _, _, rest = _STATUS.read_text().partition(f"{field}:")
    return int(rest.split()[0])


if __name__ == "__main__":
    print(json.dumps(measure(*json.loads(sys.argv[1]))))
