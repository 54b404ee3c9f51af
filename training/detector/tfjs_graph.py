"""Reads a network in TensorFlow.js's graph format, with NumPy alone.

model.json holds the operations, each with the names of its inputs, and the list of the constants;
their values follow each other in a binary file.
"""

import base64
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spyropose_ros.core.errors import DataError, MissingFileError

_RELAYOUTS = ("Identity", "Reshape", "Transpose")  # the same values
_DTYPES = {"float16": "<f2", "float32": "<f4", "int32": "<i4", "uint8": "u1"}


class Convolution(NamedTuple):
    """A convolution and its bias.

    Attributes:
        weight: as PyTorch has it, [out, in, H, W].
        bias: [out].
        stride: of both axes.
        padding: of every side, zeros.
        source: name of the operation whose output goes in.
    """

    weight: np.ndarray
    bias: np.ndarray
    stride: int
    padding: int
    source: str


class Graph:
    """Operations by name, followed from the outputs back to the input.

    Operations that only change the layout are passed over.

    Args:
        path: of model.json; the binary file lies beside it.

    Raises:
        MissingFileError: one of the files is missing.
        DataError: they do not hold a graph, or not all of it.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            model = json.loads(_content(path))
            nodes = model["modelTopology"]["node"]
            self._nodes = {node["name"]: node for node in nodes}
            (group,) = model["weightsManifest"]
            values = b"".join(_content(path.parent / name) for name in group["paths"])
            self._constants = dict(_constants(group["weights"], values))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"{path} holds no graph of TensorFlow.js ({reason})") from error

    def kind(self, name: str) -> str:
        """Return the operation of a node, such as 'Conv2D'."""
        return self._node(name)["op"]

    def inputs(self, name: str, kind: str, count: int = 1) -> list[str]:
        """Return what goes into a node, without constants; its kind and their number must fit."""
        node = self._node(name)
        if node["op"] != kind:
            raise DataError(f"{self._path}: {name} is {node['op']}, not {kind}")
        sources = [self.source(given) for given in node["input"]]
        sources = [source for source in sources if self.kind(source) != "Const"]
        if len(sources) != count:
            raise DataError(f"{self._path}: {name} takes {len(sources)} inputs, not {count}")
        return sources

    def source(self, name: str) -> str:
        """Return the operation that an output comes from, before any changes of its layout."""
        name, _, _ = name.partition(":")
        while (node := self._node(name))["op"] in _RELAYOUTS:
            name, _, _ = node["input"][0].partition(":")
        return name

    def convolution(self, name: str) -> Convolution:
        """Return the convolution that ends in this addition of its bias."""
        (product,) = self.inputs(name, "Add")
        (source,) = self.inputs(product, "Conv2D")
        attributes = self._node(product)["attr"]
        _, stride, across, _ = (int(i) for i in attributes["strides"]["list"]["i"])
        explicit = base64.b64decode(attributes["padding"]["s"]) == b"VALID"
        dilations = [int(i) for i in attributes["dilations"]["list"]["i"]]
        padding = 0
        if self.kind(source) == "Pad":
            amounts = self._constant(source, 1)
            (source,), padding = self.inputs(source, "Pad"), int(amounts.max())
            if (amounts[2:] != padding).any() or amounts[:2].any():
                raise DataError(f"{self._path}: {source} is padded unevenly: {amounts.tolist()}")
        if stride != across or not explicit or set(dilations) != {1}:
            raise DataError(f"{self._path}: {product} is not a plain convolution")
        weight = self._constant(product, 1).transpose(3, 2, 0, 1)
        return Convolution(weight, self._constant(name, 1), stride, padding, source)

    def attribute(self, name: str, key: str) -> dict:
        """Return an attribute of a node, as the file has it."""
        return self._node(name)["attr"][key]

    def _node(self, name: str) -> dict:
        if name not in self._nodes:
            raise DataError(f"{self._path} has no operation named {name}")
        return self._nodes[name]

    def _constant(self, name: str, position: int) -> np.ndarray:
        """Return the constant that is an input of a node."""
        return self._constants[self.source(self._node(name)["input"][position])]


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise MissingFileError(f"{path} is missing")
    return path.read_bytes()


def _constants(entries: list[dict], values: bytes) -> list[tuple[str, np.ndarray]]:
    """Cut the values of the constants from the binary file."""
    constants, start = [], 0
    for entry in entries:
        stored = entry.get("quantization", entry)["dtype"]
        if stored not in ("float16", entry["dtype"]):
            raise ValueError(f"{entry['name']} is quantized to {stored}")
        dtype, count = np.dtype(_DTYPES[stored]), math.prod(entry["shape"])
        array = np.frombuffer(values, dtype, count, start).reshape(entry["shape"])
        constants.append((entry["name"], array.astype(entry["dtype"])))
        start += count * dtype.itemsize
    if start != len(values):
        raise ValueError(f"{len(values)} bytes of constants instead of {start}")
    return constants
