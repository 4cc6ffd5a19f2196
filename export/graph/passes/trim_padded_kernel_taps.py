"""Cut off kernel taps that never read anything but padding.

Along an axis of n inputs, tap k of a convolution of stride s, dilation d and padding b before reads position
o * s + k * d - b for output o. If that lies outside [0, n) for every output, the tap's weights are only ever
multiplied by zeros. In the last stage of a clip of 8 frames one time step is left, and two thirds of all 3x3x3 weights
are such: read, stored and shipped for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeact.export.graph.edit import add_constant, set_ints
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.values import constant_array, node_label, operand, required_array, static_dims

__all__ = ["TapTrim", "TrimPaddedKernelTaps"]


@dataclass(frozen=True)
class TapTrim:
    """A convolution with the taps it keeps along each axis, and its new padding."""

    conv: ir.Node
    taps: tuple[slice, ...]
    pads: tuple[int, ...]


class TrimPaddedKernelTaps:
    """The rewrite that cuts off kernel taps outside of the input."""

    name = "trim_padded_kernel_taps"

    def check(self, model: ir.Model) -> tuple[TapTrim, ...] | Refusal:
        """Apply to every Conv of constant weight, static sizes and explicit padding that has such taps."""
        trims = tuple(trim for node in model.graph if node.op_type == "Conv" and (trim := _trim(node)))
        return trims or Refusal("a convolution with kernel taps that read only padding", "none")

    def rewrite(self, model: ir.Model, plan: tuple[TapTrim, ...]) -> None:
        """Cut weights and padding."""
        for trim in plan:
            conv = trim.conv
            kept = required_array(operand(conv, 1))[(slice(None), slice(None), *trim.taps)]
            conv.replace_input_with(1, add_constant(model.graph, f"{node_label(conv)}/taps/weight", kept))
            set_ints(conv, "kernel_shape", kept.shape[2:])
            set_ints(conv, "pads", trim.pads)


def _trim(conv: ir.Node) -> TapTrim | None:
    weight = constant_array(operand(conv, 1))
    inputs, outputs = static_dims(operand(conv, 0)), static_dims(conv.outputs[0])
    if weight is None or inputs is None or outputs is None or not len(inputs) == len(outputs) == weight.ndim:
        return None
    if conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    axes = weight.ndim - 2
    pads = conv.attributes.get_ints("pads", (0,) * 2 * axes)
    strides, dilations = (conv.attributes.get_ints(name, (1,) * axes) for name in ("strides", "dilations"))
    taps, before, after = [], [], []
    for axis in range(axes):
        positions = np.arange(outputs[axis + 2])[:, None] * strides[axis] - pads[axis]
        read = positions + np.arange(weight.shape[axis + 2]) * dilations[axis]
        alive = np.flatnonzero(((read >= 0) & (read < inputs[axis + 2])).any(axis=0))
        if not len(alive):
            return None
        first, last = int(alive[0]), int(alive[-1])
        taps.append(slice(first, last + 1))
        before.append(pads[axis] - first * dilations[axis])
        after.append(pads[axis + axes] - (weight.shape[axis + 2] - 1 - last) * dilations[axis])
    if all(kept.stop - kept.start == size for kept, size in zip(taps, weight.shape[2:], strict=True)):
        return None
    if min(*before, *after) < 0:
        return None
    return TapTrim(conv, tuple(taps), (*before, *after))
