"""INT8 graphs with integer flow, as the export for target cpu makes them, and small networks to make them of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx import NodeProto

from edgeact.calibration.ranges import Ranges
from edgeact.export.quantize.activation_ranges import collect_ranges, observe
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq import quantize
from edgeact.export.quantize.qdq_placement import place_qdq
from tests.export.graph.graphs import graph, node

__all__ = ["CLIPS", "SAME_SIZE", "SHAPE", "STEM", "head", "int8_network", "integer"]

SHAPE = (1, 8, 3, 6, 6)
CLIPS = [np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32) for seed in range(4)]
SAME_SIZE = {"kernel_shape": [3, 3, 3], "pads": [1] * 6}
STEM = [node("Conv", ["x", "w0"], ["a"], "stem", **SAME_SIZE), node("Relu", ["a"], ["u"], "stem relu")]
"""Nodes from the clip 'x' to the activation 'u'."""


def integer(model: ir.Model, clips: Sequence[npt.NDArray[np.float32]]) -> ir.Model:
    """Return `model` in INT8, calibrated on `clips`."""
    ranges = collect_ranges(model, clips)

    def observed(tensors: Mapping[str, str]) -> Ranges:
        return observe(model, tensors, clips, "minmax")

    return fold_weights(place_qdq(quantize(model, ranges, {}), ranges, observed))


def head(source: str) -> list[NodeProto]:
    """Return nodes from an activation to the output 'y'."""
    return [
        node("ReduceMean", [source], ["pooled"], "mean", axes=[2, 3, 4]),
        node("Flatten", ["pooled"], ["y"], "flatten"),
    ]


def int8_network(nodes: Sequence[NodeProto], **constants: npt.ArrayLike) -> ir.Model:
    """Return nodes from 'x' to 'y' in INT8; inputs 'w0', 'w1' ... are random weights (8, 8, 3, 3, 3)."""
    rng, names = np.random.default_rng(0), {name for each in nodes for name in each.input if name.startswith("w")}
    weights = {name: rng.normal(0, 0.1, (8, 8, 3, 3, 3)).astype(np.float32) for name in sorted(names - set(constants))}
    return integer(graph(nodes, {**weights, **constants}, shape=SHAPE), CLIPS)
