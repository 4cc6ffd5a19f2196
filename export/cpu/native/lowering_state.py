"""What is known of a graph while it is read: which of its tensors lie in pieces, in float, or are still to be made."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from onnx import NodeProto

from edgeact.errors import ConversionError
from edgeact.export.cpu.native.fuse_adds import add_up
from edgeact.export.cpu.native.ir import Array, ArrayOp, ConvOp, Op, Piece, RestoreOp, Value
from edgeact.export.cpu.native.onnx_nodes import channels_last, size4
from edgeact.export.graph.view import GraphView
from edgeact.runtime.native.program import Size3, Size4

__all__ = ["Pieces", "State"]

Pieces = tuple[Piece, ...]


@dataclass
class State:
    """By names of tensors; a name is in one of the tables, and in `arrays` as well once it was wanted in float."""

    graph: GraphView
    ops: list[Op] = field(default_factory=list)
    pieces: dict[str, Pieces] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    raw: dict[str, ConvOp] = field(default_factory=dict)
    """Outputs of convolutions that nothing has rounded yet, with their ReLU."""
    sums: dict[str, tuple[list[str], bool]] = field(default_factory=dict)
    """Sums that nothing has computed yet: what is added, and whether a ReLU follows."""
    blocks: dict[str, Size3] = field(default_factory=dict)
    """The rounded clip, turned into blocks."""
    readers: dict[str, list[NodeProto]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for node in self.graph.nodes:
            for name in set(node.input):
                self.readers[name].append(node)

    @property
    def clip(self) -> str:
        """Name of the graph's input."""
        return str(self.graph.model.graph.input[0].name)

    def shape(self, name: str) -> Size4:
        """As (T, H, W, C)."""
        shape = self.graph.shapes.get(name)
        if shape is None or None in shape:
            raise ConversionError(f"the native engine needs fixed shapes, '{name}' has none")
        return size4(name, shape)  # type: ignore[arg-type]

    def only_reader(self, name: str) -> NodeProto | None:
        """The one node that reads it; None where there are more, or where it is a result of the graph."""
        results = {value.name for value in self.graph.model.graph.output}
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in results else None

    def array(self, name: str) -> Array:
        """`name` in float, whatever made it."""
        if name not in self.arrays:
            self.arrays[name] = self._restored(name)
        return self.arrays[name]

    def _restored(self, name: str) -> Array:
        if (constant := self.graph.constant(name)) is not None:
            return Array(size4(name, constant.shape), channels_last(constant))
        if name in self.pieces:
            pieces = self.pieces[name]
            made = Array((*pieces[0].value.size, sum(piece.count for piece in pieces)))
            self.ops.append(RestoreOp(pieces, made))
            return made
        if name in self.raw:
            op = self.raw[name]
            op.array = op.array or Array((*op.out, len(op.weights)))
            return op.array
        if name in self.sums:
            made = Array(self.shape(name))
            self.add_up(name, made)
            return made
        raise ConversionError(f"the native engine cannot read '{name}'")

    def compute(self, name: str, op: ArrayOp) -> None:
        """Add arithmetic whose result is `name`."""
        self.ops.append(op)
        self.arrays[name] = op.to

    def can_add_up(self, name: str) -> bool:
        """Whether `name` can be a term of a sum that convolutions make."""
        if name in self.arrays or (name in self.sums and self.sums[name][1]):  # opened, it would lose its ReLU
            return False
        return name in self.pieces or name in self.raw or name in self.sums

    def add_up(self, name: str, to: Value | Array) -> None:
        """Have convolutions compute the sum `name`. Raises ConversionError where they cannot."""
        terms = self._terms(name)
        raw = [self.raw[term] for term in terms if term in self.raw]
        features = [self.pieces[term] for term in terms if term not in self.raw]
        add_up(self.ops, raw, features, to, relu=self.sums[name][1])

    def _terms(self, name: str) -> list[str]:
        """What a sum adds up, sums within it opened."""
        if name not in self.sums:
            return [name]
        return [term for one in self.sums[name][0] for term in self._terms(one)]
