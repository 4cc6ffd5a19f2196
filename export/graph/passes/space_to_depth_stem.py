"""A stem of few input channels and spatial stride 2, computed on 2x2 blocks of pixels at stride 1.

With x'[4c + 2p + q, t, i, j] = x[c, t, 2i + p, 2j + q], a convolution of stride (1, 2, 2) over C channels is one of
stride 1 over 4C channels. Along H (W alike) tap k of a kernel of kh taps, padded by b before, reads pixel 2i + k - b,
which is row p = (k - b) mod 2 of block i + floor((k - b) / 2). So the new kernel has
floor((kh - 1 - b) / 2) - floor(-b / 2) + 1 taps, its padding is -floor(-b / 2) before and floor((kh - 1 - b) / 2)
after, and positions that no tap falls on are zero. The arithmetic grows a little; the input channels fill four times as
much of a tile, and int8 tiles of three channels are what makes the stem slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeact.export.graph.passes.base import Refusal

__all__ = ["SpaceToDepthStem", "StemPlan"]

_MOST_CHANNELS = 4  # beyond it the tiles are filled well enough by the channels themselves


@dataclass(frozen=True)
class StemPlan:
    """The convolution to replace and what the new one looks like."""

    node: int
    input_shape: tuple[int, int, int, int, int]
    weight: np.ndarray
    pads: tuple[int, int, int, int, int, int]


class SpaceToDepthStem:
    """See the module's formula."""

    name = "space-to-depth stem"

    def check(self, model: onnx.ModelProto) -> StemPlan | Refusal:
        """Applies to the one Conv that reads the input: at most 4 channels, stride (1, 2, 2), even H and W."""
        graph = model.graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        name = graph.input[0].name
        users = [index for index, node in enumerate(graph.node) if name in node.input]
        if len(users) != 1 or graph.node[users[0]].op_type != "Conv":
            return Refusal("the input does not go into exactly one convolution")
        node = graph.node[users[0]]
        if node.input[1] not in constants:
            return Refusal(f"the weight of '{node.name}' is not a constant")
        weight = numpy_helper.to_array(constants[node.input[1]])
        shape = tuple(dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim)
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        reason = _refusal(shape, weight, attributes)
        if reason:
            return Refusal(f"'{node.name}': {reason}")
        before, after = attributes["pads"][:3], attributes["pads"][3:]
        heights, widths = (_taps(weight.shape[axis], before[axis - 2]) for axis in (3, 4))
        pads = (before[0], -heights[0][0], -widths[0][0], after[0], heights[-1][0], widths[-1][0])
        n, c, t, h, w = shape
        return StemPlan(users[0], (n, c, t, h, w), _folded(weight, heights, widths), pads)

    def rewrite(self, model: onnx.ModelProto, plan: StemPlan) -> None:
        """Put Reshape, Transpose, Reshape before the convolution and exchange its weight, stride and padding."""
        graph, node = model.graph, model.graph.node[plan.node]
        n, c, t, h, w = plan.input_shape
        prefix = f"{node.name}/space_to_depth"
        tensors = {
            f"{prefix}/blocks": np.array([n, c, t, h // 2, 2, w // 2, 2], np.int64),
            f"{prefix}/shape": np.array([n, 4 * c, t, h // 2, w // 2], np.int64),
            f"{prefix}/weight": plan.weight,
        }
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
        blocks, turned, packed = (f"{prefix}/{part}" for part in ("split", "turned", "packed"))
        new = [
            helper.make_node("Reshape", [node.input[0], f"{prefix}/blocks"], [blocks], f"{prefix}/Reshape_in"),
            helper.make_node("Transpose", [blocks], [turned], f"{prefix}/Transpose", perm=[0, 1, 4, 6, 2, 3, 5]),
            helper.make_node("Reshape", [turned, f"{prefix}/shape"], [packed], f"{prefix}/Reshape_out"),
        ]
        node.input[0], node.input[1] = packed, f"{prefix}/weight"
        del node.attribute[:]
        node.attribute.extend(
            [
                helper.make_attribute("kernel_shape", list(plan.weight.shape[2:])),
                helper.make_attribute("strides", [1, 1, 1]),
                helper.make_attribute("pads", list(plan.pads)),
            ]
        )
        for offset, added in enumerate(new):
            graph.node.insert(plan.node + offset, added)


def _refusal(shape: tuple[int, ...], weight: np.ndarray, attributes: dict[str, Any]) -> str | None:
    if len(shape) != 5 or min(shape) < 1:
        return f"expected a static input (N, C, T, H, W), got {shape}"
    if shape[1] > _MOST_CHANNELS:
        return f"{shape[1]} input channels fill the tiles already"
    strides = attributes.get("strides", [1, 1, 1])
    if strides != [1, 2, 2]:
        return f"expected stride [1, 2, 2], got {strides}"
    if shape[3] % 2 or shape[4] % 2:
        return f"H and W must be even, got {shape[3]}x{shape[4]}"
    if attributes.get("group", 1) != 1 or set(attributes.get("dilations", [1])) != {1}:
        return "it is grouped or dilated"
    if "pads" not in attributes or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return "its padding is not explicit"
    return _uneven(shape, weight, attributes["pads"])


def _uneven(shape: tuple[int, ...], weight: np.ndarray, pads: list[int]) -> str | None:
    """The stride-1 form gives one output per block; the original must too."""
    for axis in (3, 4):
        outputs = (shape[axis] + pads[axis - 2] + pads[axis + 1] - weight.shape[axis]) // 2 + 1
        if outputs != shape[axis] // 2:
            return f"it gives {outputs} outputs for {shape[axis]} inputs, expected half"
    return None


def _taps(kernel: int, pad: int) -> list[tuple[int, int]]:
    """(block offset, position in the block) of every kernel tap, ascending."""
    return [divmod(tap - pad, 2) for tap in range(kernel)]


def _folded(weight: np.ndarray, heights: list[tuple[int, int]], widths: list[tuple[int, int]]) -> np.ndarray:
    """The stride-1 weight (O, 4C, kt, kh', kw') of the stride-2 weight (O, C, kt, kh, kw)."""
    outputs, inputs, frames = weight.shape[:3]
    first_h, first_w = heights[0][0], widths[0][0]
    rows, columns = heights[-1][0] - first_h + 1, widths[-1][0] - first_w + 1
    folded = np.zeros((outputs, inputs, 2, 2, frames, rows, columns), weight.dtype)
    for row, (block_h, inside_h) in enumerate(heights):
        for column, (block_w, inside_w) in enumerate(widths):
            folded[:, :, inside_h, inside_w, :, block_h - first_h, block_w - first_w] = weight[..., row, column]
    return folded.reshape(outputs, 4 * inputs, frames, rows, columns)
