"""Finds the weights of NanoDet-g in the graph that was published for TensorFlow.js.

The graph's names say nothing. So the walk starts at the outputs, which have a fixed order, and
follows the inputs back to the image; every step checks that the operation is the one that
`spyropose_ros.detector.network` has there.
"""

import numpy as np

from spyropose_ros.core.errors import DataError
from spyropose_ros.detector.network import BINS, STRIDES, DetectionNetwork, Stage
from training.detector.tfjs_graph import Graph

State = dict[str, np.ndarray]


def network_state(graph: Graph) -> State:
    """Collect the state dict of the network.

    Args:
        graph: NanoDet-g of any number of classes; its image is BGR.

    Returns:
        The state of a `DetectionNetwork`, whose image is RGB; values of float16 in float32.

    Raises:
        DataError: the graph is that of another network.
    """
    return _Walk(graph).state


class _Walk:
    """The state dict, filled on the way from the outputs to the image."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._network = DetectionNetwork(1)  # for strides and numbers; no weights
        self.state: State = {}
        levels = [self._head(level) for level in range(len(STRIDES))]
        maps = self._neck(levels)
        self._backbone(maps)
        stem = "backbone.stem.weight"
        self.state[stem] = np.ascontiguousarray(self.state[stem][:, ::-1])  # BGR to RGB

    def _head(self, level: int) -> str:
        """Walk the head of a scale; return the map that it sees."""
        graph, name = self._graph, f"heads.{level}"
        scores, edges = (f"Identity_{i}" if i else "Identity" for i in (level, level + 3))
        (split,) = graph.inputs(graph.source(scores), "Sigmoid")
        if graph.source(edges) != split:
            raise DataError(f"{scores} and {edges} are not of the same head")
        (both,) = graph.inputs(split, "SplitV")
        convolution = graph.convolution(both)
        classes = len(convolution.bias) - 4 * BINS
        for part, selected in (("classes", slice(classes)), ("edges", slice(classes, None))):
            self.state[f"{name}.{part}.weight"] = convolution.weight[selected]
            self.state[f"{name}.{part}.bias"] = convolution.bias[selected]
        return self._activated(f"{name}.tower", convolution.source)

    def _neck(self, outputs: list[str]) -> list[str]:
        """Walk the neck; return the maps of the backbone, fine to coarse."""
        graph = self._graph
        fine, medium_out, coarse_out = outputs
        medium, resized_fine = graph.inputs(medium_out, "Add", 2)
        coarse, resized_medium = graph.inputs(coarse_out, "Add", 2)
        fine_lateral, from_medium = graph.inputs(fine, "Add", 2)
        medium_lateral, from_coarse = graph.inputs(medium, "Add", 2)
        resizings = [
            (resized_fine, fine),
            (resized_medium, medium_out),
            (from_medium, medium),
            (from_coarse, coarse),
        ]
        for resized, source in resizings:
            sampled_at_centers = graph.attribute(resized, "half_pixel_centers")["b"]
            if graph.inputs(resized, "ResizeBilinear") != [source] or not sampled_at_centers:
                raise DataError(f"{resized} is not the resized {source}")
        laterals = fine_lateral, medium_lateral, coarse
        return [self._take(f"neck.laterals.{i}", name) for i, name in enumerate(laterals)]

    def _backbone(self, maps: list[str]) -> None:
        """Walk the backbone from its last map to the image."""
        stages = self._network.backbone.stages
        x = maps[-1]
        for number in reversed(range(len(stages))):
            if number and x != maps[number - 1]:
                raise DataError(f"{x} and {maps[number - 1]} should be one map")
            x = self._stage(f"backbone.stages.{number}", x)
        (padded,) = self._graph.inputs(x, "MaxPool")
        (activated,) = self._graph.inputs(padded, "PadV2")
        image = self._activated("backbone.stem", activated)
        if self._graph.kind(image) != "Placeholder":
            raise DataError(f"{image} should be the image")

    def _stage(self, name: str, output: str) -> str:
        """Walk a stage; return its input."""
        stage = self._network.get_submodule(name)
        assert isinstance(stage, Stage)
        exit, entry = self._graph.inputs(output, "ConcatV2", 2)
        x = self._activated(f"{name}.exit", exit)
        for unit in reversed(range(len(stage.units))):
            second, first = self._graph.inputs(x, "ConcatV2", 2)
            if self._activated(f"{name}.units.{unit}.second", second) != first:
                raise DataError(f"{first} and {second} are not of the same unit")
            x = self._activated(f"{name}.units.{unit}.first", first)
        if x != entry:
            raise DataError(f"{x} and {entry} should be one path around the stage's units")
        return self._activated(f"{name}.entry", entry)

    def _activated(self, name: str, output: str) -> str:
        """Take a convolution that a leaky ReLU follows; return its input."""
        (convolution,) = self._graph.inputs(output, "LeakyRelu")
        return self._take(name, convolution)

    def _take(self, name: str, output: str) -> str:
        """Take a convolution into the state; return its input."""
        convolution, ours = self._graph.convolution(output), self._network.get_submodule(name)
        found = (convolution.stride,) * 2, (convolution.padding,) * 2
        if found != (ours.stride, ours.padding):
            raise DataError(f"{name} has stride and padding {found} in the graph")
        self.state[f"{name}.weight"] = convolution.weight
        self.state[f"{name}.bias"] = convolution.bias
        return convolution.source
