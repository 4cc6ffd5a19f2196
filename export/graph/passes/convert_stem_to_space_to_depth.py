"""Compute a stem of few input channels and spatial stride 2 on 2x2 blocks of pixels at stride 1.

With x'[4c + 2p + q, t, i, j] = x[c, t, 2i + p, 2j + q], a convolution of stride (1, 2, 2) over C channels equals one of
stride 1 over 4C channels. Along H (W alike) tap k of a kernel of kh taps with padding b before reads pixel
2i + k - b, which is row p = (k - b) mod 2 of block i + floor((k - b) / 2). So the new kernel has
floor((kh - 1 - b) / 2) - floor(-b / 2) + 1 taps, its padding is -floor(-b / 2) before and floor((kh - 1 - b) / 2)
after, and weights that no tap falls on are zero. The arithmetic grows a little; the input channels fill four times as
much of a tile, and nearly empty INT8 tiles of three channels are the reason that the stem is slow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeact.export.graph.edit import add_constant, set_ints
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.values import constant_array, describe_dims, node_label, operand, static_dims

__all__ = ["ConvertStemToSpaceToDepth", "StemPlan"]

_MAX_CHANNELS = 4  # more channels fill the tiles well enough by themselves


@dataclass(frozen=True)
class StemPlan:
    """The convolution to change, and its new weight and padding."""

    conv: ir.Node
    input_dims: tuple[int, int, int, int, int]
    """(N, C, T, H, W)."""
    weight: np.ndarray
    """(O, 4C, kt, kh', kw')."""
    pads: tuple[int, ...]


class ConvertStemToSpaceToDepth:
    """The rewrite that computes the stem on 2x2 blocks of pixels."""

    name = "convert_stem_to_space_to_depth"

    def check(self, model: ir.Model) -> StemPlan | Refusal:
        """Apply to the only Conv that reads the input: at most 4 channels, stride (1, 2, 2), even H and W."""
        readers = model.graph.inputs[0].consumers()
        if len(readers) != 1 or readers[0].op_type != "Conv":
            got = ", ".join(node.op_type for node in readers) or "no reader"
            return Refusal("an input that a single Conv reads", got)
        conv = readers[0]
        weight, dims = constant_array(operand(conv, 1)), static_dims(model.graph.inputs[0])
        if weight is None:
            return Refusal("a constant weight", "a computed weight", node_label(conv))
        if dims is None or len(dims) != 5:
            got = describe_dims(model.graph.inputs[0])
            return Refusal("a static input (N, C, T, H, W)", got, node_label(conv))
        if refusal := _refuse_attributes(conv, dims) or _refuse_sizes(conv, dims, weight.shape):
            return refusal
        pads = conv.attributes.get_ints("pads", ())
        heights, widths = (_tap_positions(weight.shape[axis], pads[axis - 2]) for axis in (3, 4))
        n, c, t, h, w = dims
        return StemPlan(
            conv,
            (n, c, t, h, w),
            _weight_over_blocks(weight, heights, widths),
            (pads[0], -heights[0][0], -widths[0][0], pads[3], heights[-1][0], widths[-1][0]),
        )

    def rewrite(self, model: ir.Model, plan: StemPlan) -> None:
        """Insert Reshape, Transpose, Reshape before the convolution; replace its weight, stride and padding."""
        graph, conv = model.graph, plan.conv
        n, c, t, h, w = plan.input_dims
        prefix = f"{conv.name}/space_to_depth"
        blocks = add_constant(graph, f"{prefix}/blocks", np.array([n, c, t, h // 2, 2, w // 2, 2], np.int64))
        dims = add_constant(graph, f"{prefix}/shape", np.array([n, 4 * c, t, h // 2, w // 2], np.int64))
        weight = add_constant(graph, f"{prefix}/weight", plan.weight)
        tape = ir.tape.Tape()
        split = tape.op(
            "Reshape", [operand(conv, 0), blocks], name=f"{prefix}/Reshape_in", output=ir.val(f"{prefix}/split")
        )
        turned = tape.op(
            "Transpose",
            [split],
            {"perm": [0, 1, 4, 6, 2, 3, 5]},
            name=f"{prefix}/Transpose",
            output=ir.val(f"{prefix}/turned"),
        )
        packed = tape.op("Reshape", [turned, dims], name=f"{prefix}/Reshape_out", output=ir.val(f"{prefix}/packed"))
        graph.insert_before(conv, tape.nodes)
        conv.replace_input_with(0, packed)
        conv.replace_input_with(1, weight)
        conv.attributes.clear()
        set_ints(conv, "kernel_shape", plan.weight.shape[2:])
        set_ints(conv, "strides", [1, 1, 1])
        set_ints(conv, "pads", plan.pads)


def _refuse_attributes(conv: ir.Node, dims: tuple[int, ...]) -> Refusal | None:
    attributes, label = conv.attributes, node_label(conv)
    strides = list(attributes.get_ints("strides", (1, 1, 1)))
    group, dilations = attributes.get_int("group", 1), list(attributes.get_ints("dilations", (1, 1, 1)))
    if dims[1] > _MAX_CHANNELS:
        return Refusal(f"at most {_MAX_CHANNELS} input channels", str(dims[1]), label)
    if strides != [1, 2, 2]:
        return Refusal("stride [1, 2, 2]", str(strides), label)
    if group != 1 or set(dilations) != {1}:
        return Refusal("1 group and no dilation", f"{group} groups and dilation {dilations}", label)
    if "pads" not in attributes or attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return Refusal("explicit padding", attributes.get_string("auto_pad", "none"), label)
    return None


def _refuse_sizes(conv: ir.Node, dims: tuple[int, ...], weight: tuple[int, ...]) -> Refusal | None:
    """Return a refusal unless the convolution halves H and W, as the form of stride 1 on 2x2 blocks does."""
    if dims[3] % 2 or dims[4] % 2:
        return Refusal("even H and W", f"{dims[3]}x{dims[4]}", node_label(conv))
    pads = conv.attributes.get_ints("pads", ())
    for axis in (3, 4):
        outputs = (dims[axis] + pads[axis - 2] + pads[axis + 1] - weight[axis]) // 2 + 1
        if outputs != dims[axis] // 2:
            return Refusal(f"{dims[axis] // 2} outputs for {dims[axis]} inputs", str(outputs), node_label(conv))
    return None


def _tap_positions(kernel: int, pad: int) -> list[tuple[int, int]]:
    """Return (block offset, position in the block) of every kernel tap, ascending."""
    return [divmod(tap - pad, 2) for tap in range(kernel)]


def _weight_over_blocks(
    weight: np.ndarray, heights: list[tuple[int, int]], widths: list[tuple[int, int]]
) -> np.ndarray:
    """Return the stride-1 weight (O, 4C, kt, kh', kw') of the stride-2 weight (O, C, kt, kh, kw)."""
    outputs, inputs, frames = weight.shape[:3]
    first_h, first_w = heights[0][0], widths[0][0]
    rows, columns = heights[-1][0] - first_h + 1, widths[-1][0] - first_w + 1
    blocks = np.zeros((outputs, inputs, 2, 2, frames, rows, columns), weight.dtype)
    for row, (block_h, inside_h) in enumerate(heights):
        for column, (block_w, inside_w) in enumerate(widths):
            blocks[:, :, inside_h, inside_w, :, block_h - first_h, block_w - first_w] = weight[..., row, column]
    return blocks.reshape(outputs, 4 * inputs, frames, rows, columns)
