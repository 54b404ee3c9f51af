"""What publishing costs, per message type: `python -m benchmarks.node.messages [--targets N ...]`.

Two distributions take turns: one sharp mode, and the ring of a symmetric object. Every message is
built from fresh distributions, as in the node, and published to a subscriber on this machine that
never reads. Times are CPU times, so that other work on the machine does not count. The messages of
~/distributions come first in every frame; the others are made of them where they can be.
"""

from __future__ import annotations

import argparse
import statistics
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import rclpy
from rclpy.node import Node

from spyropose_ros.ros.interfaces import Header
from spyropose_ros.ros.messages.result_messages import TOPICS, messages
from spyropose_ros.ros.messages.tf_poses import TransformChooser
from spyropose_ros.ros.pipeline.appearance import Appearance
from spyropose_ros.ros.pipeline.camera_frame import Result, View
from spyropose_ros.ros.pipeline.detections import Target
from spyropose_ros.ros.pipeline.parameters import OutputParameters, Parameters
from training import provenance

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution
    from spyropose_ros.core.search import PosePyramid

DEPTH, BEAM, TOLERANCE = 5, 512, 0.01  # as the node has them
DIAMETER, DISTANCE = 0.12, 0.6  # metres
K = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])
LOOK = Appearance(DIAMETER, "file:///mug.ply", (0.0, 0.0, 0.05), (0.08, 0.08, 0.1))
MODELS = SimpleNamespace(model_id=lambda name: name, appearance=lambda name: LOOK)
PARAMETERS = Parameters(publish_tf=True, output=OutputParameters(max_poses=256, min_mass=0.0))
WARM_UP = 2


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument(
        "--targets", type=int, nargs="+", default=[1, 4, 16], help="objects a frame"
    )
    parser.add_argument("--frames", type=int, default=10, help="frames measured")
    args = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    sharp, ring = _pyramid(symmetric=False), _pyramid(symmetric=True)
    print(
        f"{provenance.hardware('cpu')}, one thread; {PARAMETERS.output.max_poses} poses per object"
    )
    counts = len(_fresh(sharp)), len(_fresh(ring))
    print(f"leaves: sharp {counts[0]}, ring {counts[1]}; median ms (10th to 90th percentile)")
    print(f"{'objects':>7}  {'message':16}{'build':>24}{'publish':>24}")
    with rclpy.init(args=[]):
        node = Node("benchmark")
        publishers = {
            topic: node.create_publisher(kind, topic, 1) for topic, kind in TOPICS.items()
        }
        for topic, kind in TOPICS.items():
            node.create_subscription(kind, topic, lambda _: None, 1)
        while not all(publisher.get_subscription_count() for publisher in publishers.values()):
            time.sleep(0.01)
        for count in args.targets:
            times = _measure(publishers, (sharp, ring), count, args.frames)
            for topic, (build, publish) in times.items():
                print(f"{count:7}  {topic:16}{_spread(build):>24}{_spread(publish):>24}")
        node.destroy_node()


def _pyramid(symmetric: bool) -> PosePyramid:
    """Return an upright object in front of the camera, its yaw known or not."""
    import torch

    from spyropose_ros.core.search import search
    from spyropose_ros.core.translation_grid import TranslationBox

    upright = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    position = torch.tensor([0.0, 0.0, DISTANCE])
    axes = slice(2, 3) if symmetric else slice(3)

    def score(level, rotation, translation):
        alike = (rotation * upright)[..., axes].sum((-2, -1))
        offset = (translation - position) / torch.tensor([0.003, 0.003, 0.02])
        return 4.0**level / 4 * alike - 0.5 * offset.square().sum(-1)

    box = TranslationBox.from_view(position[None], DIAMETER)
    return search(score, box, depth=DEPTH, beam=BEAM, mass_tolerance=TOLERANCE)


def _fresh(pyramid: PosePyramid) -> PoseDistribution:
    """Return a distribution with nothing cached."""
    import torch

    return pyramid.distribution(0, torch.tensor([0.0, 0.0, 0.05]), DIAMETER)


def _measure(publishers, pyramids, count, frames):
    """Measure milliseconds by topic: building and publishing."""
    targets = [Target("mug", "mug", str(k), 0.9, (0.0, 0.0, 9.0, 9.0)) for k in range(count)]
    image = np.zeros((480, 640, 3), np.uint8)
    times = {topic: ([], []) for topic in TOPICS}
    chooser = TransformChooser()
    for frame in range(WARM_UP + frames):
        header = Header(frame_id="camera")
        header.stamp.sec = frame
        fresh = [_fresh(pyramids[(frame + k) % 2]) for k in range(count)]
        result = Result(header, targets, fresh, 0.1, [View("", header, image, K, None)])
        start = time.thread_time()
        for topic, message in messages(result, MODELS, PARAMETERS, chooser):
            built = time.thread_time()
            publishers[topic].publish(message)
            published = time.thread_time()
            if frame >= WARM_UP:
                times[topic][0].append(1000 * (built - start))
                times[topic][1].append(1000 * (published - built))
            start = time.thread_time()
    return times


def _spread(values):
    low, *_, high = statistics.quantiles(values, n=10)
    return f"{statistics.median(values):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
