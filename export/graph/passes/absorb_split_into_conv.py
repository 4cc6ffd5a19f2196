"""Absorb a Split and part of a Concat of a multilevel split into the next convolution, as identity filters.

A branch y is split into a part that is kept for the result and a part that is concatenated to the next piece and
convolved. Here the next convolution reads all of y (its weights for the kept part are 0) and passes the kept part on
(weight 1 at the kernel's center; y has passed a ReLU, so the ReLU after the convolution changes nothing). That saves
one Split and one input of the final Concat, at no cost if the outputs still fit the same columns of a tile: INT8 tiles
hold 16 outputs of 64 inputs, so 24 outputs cost as much as 32.

    y -> Split(keep, carry); Conv(cat[x, carry]) -> z -> Split(keep2, carry2); cat[..., keep, keep2, ...]
    Conv'(cat[x, y]) -> z' -> Split([keep keep2], carry2); cat[..., [keep keep2], ...]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeact.export.graph.edit import add_constant, set_inputs
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.values import (
    constant_array,
    dims_of,
    is_constant,
    node_label,
    only_consumer,
    operand,
    optional_operand,
    required_array,
)

__all__ = ["AbsorbSplitIntoConv", "Absorption"]

_TILE_OUTPUTS = 16


@dataclass(frozen=True)
class Absorption:
    """The nodes of one level of the split cascade, and the channels of its edges."""

    split: ir.Node
    concat: ir.Node
    conv: ir.Node
    next_split: ir.Node
    final_concat: ir.Node
    piece: int
    """Channels concatenated before the carried ones."""
    keep: int
    carry: int
    next_keep: int
    next_carry: int

    @property
    def outputs(self) -> int:
        """Output channels of the convolution before the rewrite."""
        return self.next_keep + self.next_carry

    @property
    def needs_more_tiles(self) -> bool:
        """Whether the identity filters need a further tile of outputs."""
        return -(-(self.outputs + self.keep) // _TILE_OUTPUTS) > -(-self.outputs // _TILE_OUTPUTS)


class AbsorbSplitIntoConv:
    """The rewrite that turns splits of a cascade into identity filters."""

    name = "absorb_split_into_conv"

    def check(self, model: ir.Model) -> tuple[Absorption, ...] | Refusal:
        """Apply to every such level whose convolution fills as many tiles as before."""
        levels = [level for node in model.graph if node.op_type == "Split" and (level := _level(node))]
        plan: list[Absorption] = []
        for level in levels:  # the Split after an absorbed one has other channels, so it no longer matches
            if not level.needs_more_tiles and level.split not in (other.next_split for other in plan):
                plan.append(level)
        if plan:
            return tuple(plan)
        if not levels:
            return Refusal("a split whose second part is concatenated and convolved", "none")
        widest = levels[0]
        return Refusal(
            f"identity filters within the tiles of {_TILE_OUTPUTS} that {widest.outputs} outputs fill",
            f"{widest.keep} more outputs",
            node_label(widest.conv),
        )

    def rewrite(self, model: ir.Model, plan: tuple[Absorption, ...]) -> None:
        """Widen each convolution, split its output as before, and remove the Split before it."""
        for level in plan:
            _absorb(model.graph, level)


def _absorb(graph: ir.Graph, level: Absorption) -> None:
    conv, prefix = level.conv, f"{node_label(level.conv)}/carried"
    level.concat.replace_input_with(1, operand(level.split, 0))
    weight = _widen(required_array(operand(conv, 1)), level)
    conv.replace_input_with(1, add_constant(graph, f"{prefix}/weight", weight))
    if (bias := optional_operand(conv, 2)) is not None:
        wide_bias = np.r_[np.zeros(level.keep, np.float32), required_array(bias)]
        conv.replace_input_with(2, add_constant(graph, f"{prefix}/bias", wide_bias))
    sizes = add_constant(graph, f"{prefix}/sizes", np.array([level.keep + level.next_keep, level.next_carry], np.int64))
    set_inputs(level.next_split, [operand(level.next_split, 0), sizes])
    level.next_split.attributes.pop("num_outputs", None)  # stated by a Split into equal parts
    kept = level.split.outputs[0]
    set_inputs(level.final_concat, [value for value in level.final_concat.inputs if value is not kept])
    graph.remove(level.split, safe=True)


def _widen(weight: np.ndarray, level: Absorption) -> np.ndarray:
    """Return the weight (keep + outputs, piece + keep + carry, ...) of the weight (outputs, piece + carry, ...)."""
    outputs, _, *kernel = weight.shape
    wide = np.zeros((level.keep + outputs, level.piece + level.keep + level.carry, *kernel), weight.dtype)
    wide[level.keep :, : level.piece] = weight[:, : level.piece]
    wide[level.keep :, level.piece + level.keep :] = weight[:, level.piece :]
    center = tuple(size // 2 for size in kernel)
    for channel in range(level.keep):
        wide[(channel, level.piece + channel, *center)] = 1
    return wide


def _level(split: ir.Node) -> Absorption | None:
    """Return the level of the cascade that starts with `split`, None if the nodes after it are arranged otherwise."""
    parts = _two_parts(split)
    rectified = operand(split, 0).producer()
    if parts is None or rectified is None or rectified.op_type != "Relu":
        return None
    kept, carried = split.outputs
    concat, final_concat = only_consumer(carried, "Concat"), only_consumer(kept, "Concat")
    conv = None if concat is None else only_consumer(concat.outputs[0], "Conv")
    relu = None if conv is None else only_consumer(conv.outputs[0], "Relu")
    next_split = None if relu is None else only_consumer(relu.outputs[0], "Split")
    next_parts = None if next_split is None else _two_parts(next_split)
    if concat is None or final_concat is None or conv is None or next_split is None or next_parts is None:
        return None
    if not _appends(concat, carried) or not _follows(final_concat, kept, next_split.outputs[0]):
        return None
    inputs = dims_of(concat.outputs[0])
    if not _keeps_size(conv) or inputs is None or inputs[1] is None:
        return None
    return Absorption(split, concat, conv, next_split, final_concat, inputs[1] - parts[1], *parts, *next_parts)


def _two_parts(split: ir.Node) -> tuple[int, int] | None:
    """Return the channels of a Split into two along the channel axis."""
    if len(split.outputs) != 2 or split.attributes.get_int("axis", 0) != 1:
        return None
    first, second = (dims_of(value) or (None, None) for value in split.outputs)
    return None if first[1] is None or second[1] is None else (first[1], second[1])


def _appends(concat: ir.Node, carried: ir.Value) -> bool:
    return len(concat.inputs) == 2 and concat.inputs[1] is carried and concat.attributes.get_int("axis", 0) == 1


def _follows(final_concat: ir.Node, kept: ir.Value, next_kept: ir.Value) -> bool:
    """Return whether the next kept part stands behind `kept`, and no other node would get the absorbed channels."""
    inputs = list(final_concat.inputs)
    neighbors = inputs[inputs.index(kept) + 1 :][:1]
    only_reader = only_consumer(next_kept, "Concat") is not None
    return final_concat.attributes.get_int("axis", 0) == 1 and neighbors == [next_kept] and only_reader


def _keeps_size(conv: ir.Node) -> bool:
    """Return whether `conv` is plain, of stride 1, its odd kernel centered, with constant weight and bias."""
    weight = constant_array(operand(conv, 1))
    if weight is None or not all(is_constant(value) for value in conv.inputs[2:]):
        return False
    kernel, attributes = weight.shape[2:], conv.attributes
    centered = [size // 2 for size in kernel] * 2
    return (
        all(size % 2 for size in kernel)
        and list(attributes.get_ints("pads", (0,) * 2 * len(kernel))) == centered
        and set(attributes.get_ints("strides", (1,))) == {1}
        and set(attributes.get_ints("dilations", (1,))) == {1}
        and attributes.get_int("group", 1) == 1
    )
