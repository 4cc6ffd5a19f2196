"""A multilevel split whose kept halves ride through the next convolution instead of being cut off and joined again.

A branch y is split into a half that is kept for the result and a half that is joined to the next piece and convolved.
Here the next convolution reads all of y (its weights for the kept half are 0) and hands the kept half on (weight 1 at
the kernel's centre; y has passed a ReLU, so the ReLU behind it changes nothing). One split and one piece of the final
join less, at no cost where the outputs still fit the same columns of a tile: int8 tiles hold 16 outputs of 64 inputs,
so 24 outputs cost as much as 32.

    y -> Split(keep, carry); Conv(cat[x, carry]) -> z -> Split(keep2, carry2); cat[..., keep, keep2, ...]
    Conv'(cat[x, y]) -> z' -> Split([keep keep2], carry2); cat[..., [keep keep2], ...]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from edgeact.export.graph.edit import Readers, add_constant, only_reader, readers_of, remove_nodes
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.view import GraphView, attribute, node_label, view

__all__ = ["CarriedHalves", "Carry"]

_TILE_OUTPUTS = 16


@dataclass(frozen=True)
class Carry:
    """The nodes of one step of the cascade, and how many channels they pass."""

    split: NodeProto
    join: NodeProto
    conv: NodeProto
    next_split: NodeProto
    final: NodeProto
    piece: int
    keep: int
    carry: int
    next_keep: int
    next_carry: int


class CarriedHalves:
    """See the module's picture."""

    name = "carried halves"

    def check(self, model: onnx.ModelProto) -> tuple[Carry, ...] | Refusal:
        """Applies to every such step that leaves as many tiles as there were."""
        graph, readers = view(model), readers_of(model)
        found = [_step(graph, readers, node) for node in graph.nodes if node.op_type == "Split"]
        steps = tuple(item for item in found if isinstance(item, Carry))
        reasons = [item for item in found if isinstance(item, str)]
        return steps or Refusal(reasons[0] if reasons else "no half of a split is joined and convolved")

    def rewrite(self, model: onnx.ModelProto, plan: tuple[Carry, ...]) -> None:
        """Widen the convolution, move the cut behind it, and take out the split before it."""
        for step in plan:
            graph = view(model)
            prefix = f"{node_label(step.conv)}/carried"
            weight, *bias = (numpy_helper.to_array(graph.constants[name]) for name in step.conv.input[1:])
            _read(model, step.join, step.split.output[1], step.split.input[0])
            by_output = {node.output[0]: node for node in model.graph.node}
            conv, cut = by_output[step.conv.output[0]], by_output[step.next_split.output[0]]
            conv.input[1] = add_constant(model, f"{prefix}/weight", _widened(weight, step))
            if bias:
                conv.input[2] = add_constant(model, f"{prefix}/bias", np.r_[np.zeros(step.keep, np.float32), bias[0]])
            sizes = np.array([step.keep + step.next_keep, step.next_carry], np.int64)
            _give_sizes(cut, add_constant(model, f"{prefix}/sizes", sizes))
            final = by_output[step.final.output[0]]
            kept = [name for name in final.input if name != step.split.output[0]]
            del final.input[:]
            final.input.extend(kept)
            remove_nodes(model, [step.split])


def _give_sizes(cut: NodeProto, sizes: str) -> None:
    """A Split into equal parts names none, or their number."""
    features = cut.input[0]
    del cut.input[:]
    cut.input.extend([features, sizes])
    kept = [one for one in cut.attribute if one.name != "num_outputs"]
    del cut.attribute[:]
    cut.attribute.extend(kept)


def _read(model: onnx.ModelProto, node: NodeProto, old: str, new: str) -> None:
    own = next(one for one in model.graph.node if one.output[0] == node.output[0])
    names = [new if name == old else name for name in own.input]
    del own.input[:]
    own.input.extend(names)


def _widened(weight: np.ndarray, step: Carry) -> np.ndarray:
    """(keep + outputs, piece + keep + carry, ...) of the weight (outputs, piece + carry, ...)."""
    outputs, _, *kernel = weight.shape
    wide = np.zeros((step.keep + outputs, step.piece + step.keep + step.carry, *kernel), weight.dtype)
    wide[step.keep :, : step.piece] = weight[:, : step.piece]
    wide[step.keep :, step.piece + step.keep :] = weight[:, step.piece :]
    centre = tuple(size // 2 for size in kernel)
    for channel in range(step.keep):
        wide[(channel, step.piece + channel, *centre)] = 1
    return wide


def _step(graph: GraphView, readers: Readers, split: NodeProto) -> Carry | str | None:
    """None where the split is of another kind; a reason where only the sizes speak against it."""
    sizes = _halves(graph, split)
    join = only_reader(readers, split.output[1], "Concat") if sizes else None
    final = only_reader(readers, split.output[0], "Concat") if sizes else None
    conv = None if join is None else only_reader(readers, join.output[0], "Conv")
    relu = None if conv is None else only_reader(readers, conv.output[0], "Relu")
    cut = None if relu is None else only_reader(readers, relu.output[0], "Split")
    next_sizes = None if cut is None else _halves(graph, cut)
    if sizes is None or join is None or final is None or conv is None or cut is None or next_sizes is None:
        return None
    maker = graph.producers.get(split.input[0])
    if maker is None or maker.op_type != "Relu" or not _keeps_shape(graph, conv):
        return None
    if len(join.input) != 2 or join.input[1] != split.output[1] or attribute(join, "axis", 0) != 1:
        return None
    names = list(final.input)
    place = names.index(split.output[0])
    if attribute(final, "axis", 0) != 1 or names[place + 1 : place + 2] != [cut.output[0]]:
        return None
    if only_reader(readers, cut.output[0], "Concat") is None:  # another one would get the carried half as well
        return None
    outputs = sum(next_sizes)
    if -(-(outputs + sizes[0]) // _TILE_OUTPUTS) > -(-outputs // _TILE_OUTPUTS):
        return f"{outputs} outputs and {sizes[0]} carried ones need more tiles of {_TILE_OUTPUTS} than {outputs} do"
    piece = (graph.shapes[join.output[0]][1] or 0) - sizes[1]
    return Carry(split, join, conv, cut, final, piece, *sizes, *next_sizes)


def _halves(graph: GraphView, split: NodeProto) -> tuple[int, int] | None:
    if len(split.output) != 2 or attribute(split, "axis", 0) != 1:
        return None
    first, second = (graph.shapes.get(name, (None, None))[1] for name in split.output)
    return None if first is None or second is None else (first, second)


def _keeps_shape(graph: GraphView, conv: NodeProto) -> bool:
    """A plain convolution of stride 1, its odd kernel centred, of constant weights and bias or no bias."""
    weight = graph.constant(conv.input[1])
    if weight is None or any(name not in graph.constants for name in conv.input[2:]):
        return False
    kernel = weight.shape[2:]
    centred = [size // 2 for size in kernel] * 2
    return (
        all(size % 2 for size in kernel)
        and list(attribute(conv, "pads", [0] * 2 * len(kernel))) == centred
        and set(attribute(conv, "strides", [1])) == {1}
        and set(attribute(conv, "dilations", [1])) == {1}
        and attribute(conv, "group", 1) == 1
    )
