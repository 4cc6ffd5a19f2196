"""Networks with their toggle graphs, and helpers that run and damage quantized graphs."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeact.export.graph.proto import find_fault
from edgeact.export.graph.run import GraphRunner
from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.graph.values import constant_array, name_of, operand
from edgeact.export.quantize.activation_ranges import collect_ranges
from edgeact.export.quantize.avoid_saturation import avoid_saturation
from edgeact.export.quantize.exclusions import float_everywhere
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq import quantize
from edgeact.export.quantize.toggle_graph import ToggleGraph, build_toggle_graph
from edgeact.layer_reasons import FloatReason
from tests.export.graph.exported import exported, random_clips

__all__ = ["ToggledNetwork", "as_written", "damage", "for_openvino", "toggled_network", "with_int8"]


@dataclass(frozen=True)
class ToggledNetwork:
    """A float graph and its toggle graph; neither may be changed."""

    model: ir.Model
    excluded: dict[str, FloatReason]
    clips: list[NDArray[np.float32]]
    graph: ToggleGraph

    def quantized(self, in_float: tuple[str, ...] = ()) -> ir.Model:
        """Return the quantized graph with the layers of `in_float` excluded too."""
        ranges = collect_ranges(self.model, self.clips, excluded=self.excluded)
        return quantize(self.model, ranges, {*self.excluded, *in_float})


@functools.cache
def toggled_network(name: str, width: int = 8) -> ToggledNetwork:
    """Return a narrow registry model with a toggle graph that has means; cached."""
    case = exported(name, width)
    return with_int8(at_opset(case.graph, 17), random_clips(case.clip, 6))


def with_int8(model: ir.Model, clips: list[NDArray[np.float32]]) -> ToggledNetwork:
    """Return `model` with a toggle graph without the layers that no target quantizes."""
    excluded = float_everywhere(model)
    plain = quantize(model, collect_ranges(model, clips, excluded=excluded), excluded)
    return ToggledNetwork(model, excluded, clips, build_toggle_graph(model, plain, excluded, with_means=True))


def for_openvino(placed: ir.Model) -> ir.Model:
    """Return the form in which the exporter gives an INT8 graph with Q/DQ placement for CPUs to OpenVINO."""
    model = fold_weights(avoid_saturation(placed))
    assert find_fault(model) is None
    return model


def as_written(model: ir.Model, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first output as the graph states it: no Q/DQ pair is fused."""
    (output,), (source,) = model.graph.outputs, model.graph.inputs
    return GraphRunner(model, threads=1).run([name_of(output)], {name_of(source): clip})[0]


def damage(model: ir.Model, weight: str, by: float) -> ir.Model:
    """Return a copy of the same function whose convolution `weight` reads a channel that is `by` times as large.

    The INT8 scale of all channels then rounds the other channels to 0. The layer before, in front of a ReLU, computes
    the large channel.
    """
    changed = model.clone()
    kernel = changed.graph.initializers[weight]
    ((reader, _),) = kernel.uses()
    relu = operand(reader, 0).producer()
    assert relu is not None
    before = operand(relu, 0).producer()
    assert before is not None
    for value in before.inputs[1:]:
        assert value is not None
        _scale(value, (0,), by)
    _scale(kernel, (slice(None), 0), 1 / by)
    return changed


def _scale(constant: ir.Value, part: tuple[int | slice, ...], by: float) -> None:
    array = constant_array(constant)
    assert array is not None
    changed = array.copy()
    changed[part] *= by
    constant.const_value = ir.tensor(changed, name=constant.name)
