"""A real graph for the tests in this folder: Fast DDS on this machine, in a domain of its own."""

import itertools
import os
import sys
from pathlib import Path

import pytest
import rclpy

from spyropose_ros.core.bundle import ModelBundle, ObjectInfo
from spyropose_ros.core.presence import STATISTICS, PresenceModel
from spyropose_ros.demo.processes import free_domain

sys.path.append(str(Path(__file__).parent))  # for graph.py
import graph
from model_tools import KEYPOINTS, TINY, coloured_box, untrained_model

os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def save_untrained_model(directory, name: str, seed: int) -> str:
    """Writes a small bundle with random weights; its sharp temperatures give several modes."""
    info = ObjectInfo(name, [0.0, 0.0, 0.01], 0.12, 0.9, 0.05, KEYPOINTS.tolist())
    bundle = ModelBundle(untrained_model(seed=seed), info, [0.005] * TINY.depth)
    bundle.presence = PresenceModel([1.0] * STATISTICS * TINY.feature_channels, 0.0)
    bundle.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def mug_bundle(tmp_path_factory):
    return save_untrained_model(tmp_path_factory.mktemp("models") / "mug", "mug", seed=2)


@pytest.fixture(scope="session")
def meshed_bundle(tmp_path_factory):
    """A model that gives several modes, with a mesh that has colours."""
    folder = tmp_path_factory.mktemp("meshed") / "mug"
    save_untrained_model(folder, "mug", seed=4)
    coloured_box().export(folder / "mesh.ply")
    return str(folder)


@pytest.fixture(scope="session")
def duck_bundle(tmp_path_factory):
    return save_untrained_model(tmp_path_factory.mktemp("models") / "duck", "duck", seed=1)


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """A detector that finds a mug in every cell of a grid: more than 50 in an image."""
    import torch

    from spyropose_ros.detector.bundle import DetectorBundle, DetectorInfo
    from spyropose_ros.detector.network import DetectionNetwork

    network = DetectionNetwork(1)
    for head in network.heads:
        torch.nn.init.zeros_(head.classes.weight)
        torch.nn.init.constant_(head.classes.bias, 2.0)
        torch.nn.init.zeros_(head.edges.weight)
        head.edges.bias.data.view(4, -1)[:, 1] += 50  # every edge is one stride away
    folder = tmp_path_factory.mktemp("many")
    DetectorBundle(network.eval(), DetectorInfo(("mug",), 160)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session", autouse=True)
def ros():
    rclpy.init(args=[])
    yield
    rclpy.try_shutdown()


_serial = itertools.count()


@pytest.fixture
def start(mug_bundle):
    """Starts an estimator in this process, in a namespace of its own, and returns its peer."""
    from spyropose_ros.ros.node.lifecycle_node import EstimatorNode

    peers = []

    def start_node(wait_for_topics=True, **parameters):
        parameters = {"objects": [mug_bundle], "device": "cpu", "search__beam": 32} | parameters
        namespace = f"/test_{next(_serial)}"
        node = EstimatorNode(namespace=namespace, parameter_overrides=graph.overrides(**parameters))
        peer = graph.Peer(namespace, node)
        peers.append(peer)
        if wait_for_topics:
            peer.connect()
        if node.get_parameter("autostart").value:
            peer.spin_until(lambda: node.ready)
        return peer

    yield start_node
    for peer in peers:
        peer.close()


@pytest.fixture
def launch_process(tmp_path):
    """Starts the estimator as a process of its own."""
    processes = []

    def start_process(*arguments):
        processes.append(graph.Process(tmp_path, *arguments))
        return processes[-1]

    yield start_process
    for process in processes:
        process.close()
