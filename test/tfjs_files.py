"""Writes a detection network as TensorFlow.js publishes NanoDet: a graph and its constants."""

import base64
import json

import numpy as np

from spyropose_ros.detector.network import BINS


def write_graph(network, directory):
    """Write nanodet.json and nanodet.bin; the names say nothing about the layers."""
    writer = _Writer()
    x = writer.add("Placeholder")
    backbone, neck = network.backbone, network.neck
    x = writer.activated(x, backbone.stem, bgr=True)
    padded = writer.add("PadV2", x, writer.constant([[0, 0], [0, 0], [1, 1], [1, 1]]))
    x = writer.add("MaxPool", padded)
    maps = []
    for stage in backbone.stages:
        around = x = writer.activated(x, stage.entry)
        for unit in stage.units:
            first = writer.activated(x, unit.first)
            x = writer.concatenated(writer.activated(first, unit.second), first)
        x = writer.concatenated(writer.activated(x, stage.exit), around)
        maps.append(x)
    laterals = zip(maps[1:], neck.laterals, strict=True)
    fine, medium, coarse = (writer.convolved(x, lateral) for x, lateral in laterals)
    medium = writer.add("Add", medium, writer.resized(coarse))
    fine = writer.add("Add", fine, writer.resized(medium))
    medium_out = writer.add("Add", medium, writer.resized(fine))
    coarse_out = writer.add("Add", coarse, writer.resized(medium_out))
    for level, x in enumerate((fine, medium_out, coarse_out)):
        writer.head(level, x, network.heads[level])
    writer.save(directory)


class _Writer:
    def __init__(self):
        self.nodes, self.entries, self.values = [], [], []

    def add(self, kind, *inputs, name=None, **attributes):
        name = name or f"unknown_{len(self.nodes)}"
        self.nodes.append({"name": name, "op": kind, "input": inputs, "attr": attributes})
        return name

    def constant(self, value):
        value = np.asarray(value)
        name = self.add("Const")
        floats = value.dtype.kind == "f"
        entry = {"name": name, "shape": value.shape, "dtype": "float32" if floats else "int32"}
        if floats:
            entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
        self.entries.append(entry)
        self.values.append(value.astype("<f2" if floats else "<i4").tobytes())
        return name

    def transposed(self, x):
        return self.add("Transpose", x, self.constant([0, 2, 3, 1]))

    def convolved(self, x, layer, bgr=False):
        return self.convolution(x, *_arrays(layer, bgr), layer.stride, layer.padding)

    def convolution(self, x, weight, bias, strides, padding):
        if any(padding):
            x = self.add("Pad", x, self.constant([[0, 0], [0, 0], *([p, p] for p in padding)]))
        product = self.add(
            "Conv2D",
            self.transposed(x),
            self.constant(weight.transpose(2, 3, 1, 0)),
            strides={"list": {"i": ["1", *map(str, strides), "1"]}},
            dilations={"list": {"i": ["1"] * 4}},
            padding={"s": base64.b64encode(b"VALID").decode()},
        )
        return self.transposed(self.add("Add", product, self.constant(bias)))

    def activated(self, x, layer, bgr=False):
        return self.add("LeakyRelu", self.convolved(x, layer, bgr), alpha={"f": 0.1})

    def concatenated(self, *parts):
        return self.add("ConcatV2", *parts, self.constant(1))

    def resized(self, x):
        centers = {"b": True}
        size = self.constant([2, 2])
        y = self.add("ResizeBilinear", self.transposed(x), size, half_pixel_centers=centers)
        return self.transposed(y)

    def head(self, level, x, head):
        x = self.activated(x, head.tower)
        parts = [_arrays(head.classes), _arrays(head.edges)]
        weight, bias = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        both = self.convolution(x, weight, bias, (1, 1), (0, 0))
        sizes = self.constant([len(bias) - 4 * BINS, 4 * BINS])
        split = self.add("SplitV", both, sizes, self.constant(1))
        scores = self.add("Reshape", self.add("Sigmoid", split), self.constant([1, -1]))
        self.add("Identity", self.transposed(scores), name=f"Identity_{level}".removesuffix("_0"))
        edges = self.transposed(self.add("Reshape", f"{split}:1", self.constant([1, -1])))
        self.add("Identity", edges, name=f"Identity_{level + 3}")

    def save(self, directory):
        group = {"paths": ["nanodet.bin"], "weights": self.entries}
        model = {"modelTopology": {"node": self.nodes}, "weightsManifest": [group]}
        (directory / "nanodet.json").write_text(json.dumps(model))
        (directory / "nanodet.bin").write_bytes(b"".join(self.values))


def _arrays(layer, bgr=False):
    weight, bias = (tensor.detach().numpy() for tensor in (layer.weight, layer.bias))
    return weight[:, ::-1] if bgr else weight, bias
