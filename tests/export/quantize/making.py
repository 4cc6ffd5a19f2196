"""Networks that INT8 was made of, with the graph whose layers are switched."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.quantize.activation_ranges import collect_ranges
from edgeact.export.quantize.exclusions import float_everywhere
from edgeact.export.quantize.qdq import quantize
from edgeact.export.quantize.toggle_graph import SwitchedGraph, switchable
from tests.export.graph.exported import exported, random_clips

__all__ = ["Switched", "as_written", "hurt", "switched", "with_int8"]


@dataclass(frozen=True)
class Switched:
    """A float graph, what `quantize` makes of it, and the two in one; none is to be changed."""

    model: onnx.ModelProto
    skip: dict[str, str]
    clips: list[NDArray[np.float32]]
    graph: SwitchedGraph

    def quantized(self, in_float: tuple[str, ...] = ()) -> onnx.ModelProto:
        """INT8 with further layers in float."""
        ranges = collect_ranges(self.model, self.clips, skip=self.skip)
        return quantize(self.model, ranges, self.skip | dict.fromkeys(in_float, "asked for"))


@functools.cache
def switched(name: str, width: int = 8) -> Switched:
    """A narrow registry model, with the means of its layers."""
    case = exported(name, width)
    return with_int8(at_opset(case.graph, 17), random_clips(case.clip, 6))


def with_int8(model: onnx.ModelProto, clips: list[NDArray[np.float32]]) -> Switched:
    """`model` by the rules that hold for every target."""
    skip = float_everywhere(model)
    plain = quantize(model, collect_ranges(model, clips, skip=skip), skip)
    return Switched(model, skip, clips, switchable(model, plain, skip, with_means=True))


def as_written(model: onnx.ModelProto, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the graph states: no Q/DQ pair is fused with anything."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {model.graph.input[0].name: clip})[0]
    return result


def hurt(model: onnx.ModelProto, weight: str, by: float) -> onnx.ModelProto:
    """A copy that computes the same, but whose convolution `weight` reads one channel that is `by` times as large.

    One step of INT8 for all channels then rounds the others to 0. The layer before, behind a ReLU, makes that channel.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in changed.graph.initializer}
    reader = next(node for node in changed.graph.node if weight in node.input)
    relu = next(node for node in changed.graph.node if reader.input[0] in node.output)
    before = next(node for node in changed.graph.node if relu.input[0] in node.output)
    for name in before.input[1:]:
        value = numpy_helper.to_array(constants[name]).copy()
        value[0] *= by
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
    value = numpy_helper.to_array(constants[weight]).copy()
    value[:, 0] /= by
    constants[weight].CopyFrom(numpy_helper.from_array(value, weight))
    return changed
