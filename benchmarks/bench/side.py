"""What each process of `benchmarks.bench.against` runs, with the code of its commit.

The text of this file goes to another commit's Python, so it asks no more of that commit than the
estimator's public calls and, where they are the same, the benchmark's messages.
"""

import json
import os
import sys
import time
from collections.abc import Callable

CROWD = 16


def calls_of(job: dict) -> dict[str, Callable[[], int]]:
    """Return what to measure, by name; each call returns the poses that it scored."""
    import numpy as np
    import torch

    from benchmarks.bench import networks, stages

    torch.set_num_threads(job["threads"])
    settings = networks.SearchSettings(**job["settings"])
    bundle = networks.open_network(job["network"])
    estimator = networks.open_estimator(bundle, torch.device(job["device"]), settings)
    with np.load(job["scene"]) as stored:
        scene = networks.Scene(**stored)
    seen = networks.Crops.of(estimator, scene)
    crowd = scene.crowded(CROWD)

    def poses(pyramid) -> int:
        return int(pyramid.evaluations.sum())

    def whole() -> int:
        stages.end_to_end(estimator, scene)
        return 0

    def of_scene(scene) -> int:
        return poses(estimator.search(scene.image, scene.K, scene.boxes))

    return {
        "search alone": lambda: poses(networks.search_features(estimator, seen)),
        "crop, backbone and search": lambda: of_scene(scene),
        "image message to messages": whole,
        f"{CROWD} detections in one image": lambda: of_scene(crowd),
    }


def serve(job: dict) -> None:
    """Make the calls whose names come in, and answer with their times."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get among the answers
    calls = calls_of(job)
    print(json.dumps({"calls": list(calls)}), file=answers, flush=True)
    for line in sys.stdin:
        begin, cpu = time.perf_counter(), time.process_time()
        poses = calls[line.strip()]()
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
        answer = {"poses": poses, "seconds": seconds, "cpu_seconds": cpu_seconds}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
