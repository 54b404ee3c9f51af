"""Compare estimates in bags with the truth: `python -m benchmarks.accuracy.bags BAG ...`.

For bags of spyropose_ros.demo.record that ./run bag went over with --all: each gives one row per
object, so that settings can be compared on the same recording.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped
from spyropose_ros.msg import PoseDistributionArray

from spyropose_ros.demo.results import symmetries
from spyropose_ros.ros.bags.bag_files import BagReader
from spyropose_ros.ros.messages.conversions import pose_arrays
from spyropose_ros.ros.pipeline import rotations
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from training import markdown
from training.evaluation.pose_errors import rotation_error

_DISTRIBUTIONS = "/estimator/distributions"
_HEADER = [
    "bag",
    "object",
    "frames",
    "rotation (deg)",
    "sideways (mm)",
    "depth (mm)",
    "mass",
    "entropy",
]


def bags(paths: list[Path]) -> list[str]:
    """Print errors of the leading mode, its mass and the entropy; medians over the frames.

    Args:
        paths: folders of bags with estimates and truth/<object>.

    Returns:
        The lines of the table.
    """
    cells = []
    for path in paths:
        for name, rows in _errors(path).items():
            rotation, sideways, depth, mass, entropy = np.median(np.array(rows), axis=0)
            errors = [f"{value:.1f}" for value in (rotation, sideways, depth)]
            cells.append(
                [path.name, name, str(len(rows)), *errors, f"{mass:.2f}", f"{entropy:.1f}"]
            )
    lines = markdown.table(_HEADER, cells)
    print("\n".join(lines))
    return lines


def _errors(path: Path) -> dict[str, list[tuple[float, ...]]]:
    """Return the rotation, sideways and depth error, mass and entropy of every frame, by object."""
    truth: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    rows = defaultdict(list)
    with BagReader(path) as reader:
        topics = [topic for topic in reader.topics if topic.startswith("/truth/")]
        for record in reader.records(topics):
            message = reader.decode(record, PoseStamped)
            name = record.topic.removeprefix("/truth/")
            truth[name, nanoseconds(message.header.stamp)] = _matrix(message.pose)
        for record in reader.records([_DISTRIBUTIONS]):
            for found in reader.decode(record, PoseDistributionArray).distributions:
                known = truth.get((found.class_id, nanoseconds(found.header.stamp)))
                if known is not None and found.modes:
                    rows[found.class_id].append(_row(found, *known))
    return dict(sorted(rows.items()))


def _matrix(pose) -> tuple[np.ndarray, np.ndarray]:
    positions, quaternions = pose_arrays([pose])
    return rotations.matrices(quaternions)[0], positions[0]


def _row(found, rotation: np.ndarray, translation: np.ndarray) -> tuple[float, ...]:
    """Compare the leading mode of a distribution with the truth."""
    mode = found.modes[0]
    estimate, position = _matrix(mode.pose)
    equivalents = rotation @ symmetries(f"lmo/{found.class_id}")  # [S, 3, 3]
    ray = translation / np.linalg.norm(translation)
    offset = position - translation
    depth = float(offset @ ray)
    return (
        rotation_error(estimate, equivalents),
        1000 * float(np.linalg.norm(offset - depth * ray)),
        1000 * abs(depth),
        mode.mass,
        found.entropy,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.bags", description=__doc__)
    parser.add_argument("bag", nargs="+", type=Path)
    bags(parser.parse_args().bag)
