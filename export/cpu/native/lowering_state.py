"""What the compiler knows of a graph while it reads its nodes: how each ONNX tensor is available."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from onnx import NodeProto

from edgeact.export.cpu.native.fuse_adds import fuse_add
from edgeact.export.cpu.native.ir import (
    ConvOp,
    DequantizeOp,
    FloatOp,
    FloatTensor,
    InputOp,
    QuantizedTensor,
    Slices,
    Tensor,
)
from edgeact.export.cpu.native.onnx_nodes import channels_last, size4, triple
from edgeact.export.cpu.native.refusals import Layer, UnmetRequirement
from edgeact.export.cpu.native.schedule import Schedule
from edgeact.export.graph.view import GraphView
from edgeact.runtime.native.program import Size3, Size4

__all__ = ["LoweringState", "PendingAdd"]


@dataclass(frozen=True)
class PendingAdd:
    """An addition of INT8 activations that no operation computes yet."""

    inputs: tuple[str, ...]
    """Names of ONNX tensors."""
    layer: Layer
    relu: bool = False


class LoweringState:
    """The operations so far, and how each ONNX tensor is available, by its name.

    A tensor is in one of `slices`, `convs` and `adds`, or a constant; `floats` holds it as well once a layer reads it
    in float.
    """

    def __init__(self, graph: GraphView) -> None:
        self.graph = graph
        self.schedule = Schedule()
        self.slices: dict[str, Slices] = {}
        """Quantized activations."""
        self.floats: dict[str, FloatTensor] = {}
        """Float activations."""
        self.convs: dict[str, ConvOp] = {}
        """Outputs of convolutions, before quantization, with their ReLU."""
        self.adds: dict[str, PendingAdd] = {}
        self.clip_blocks: dict[str, Size3] = {}
        """The quantized clip before any convolution: its space-to-depth blocks."""
        self._reads_clip = False
        self._results = {value.name for value in graph.model.graph.output}
        self._readers: defaultdict[str, list[NodeProto]] = defaultdict(list)
        for node in graph.nodes:
            for name in set(node.input):
                self._readers[name].append(node)

    @property
    def clip(self) -> str:
        """Name of the graph's input."""
        return str(self.graph.model.graph.input[0].name)

    def size(self, name: str) -> Size4:
        """Return the shape of a tensor as (T, H, W, C)."""
        shape = self.graph.shapes.get(name)
        if shape is None:
            raise UnmetRequirement("static-shape", f"no shape of '{name}'")
        static = [extent for extent in shape if extent is not None]
        if len(static) < len(shape):
            raise UnmetRequirement("static-shape", f"{shape} of '{name}'")
        return size4(name, static)

    def read_slices(self, name: str) -> Slices | None:
        """Return the slices of a quantized tensor for an operation that reads them, None if it is in float.

        The first operation that reads the quantized clip decides its space-to-depth blocks.
        """
        slices = self.slices.get(name)
        if slices is not None and name in self.clip_blocks:
            self._append_input(name, slices[0].tensor)
        return slices

    def _append_input(self, name: str, tensor: QuantizedTensor) -> None:
        block = self.clip_blocks.pop(name)
        if self._reads_clip:
            raise UnmetRequirement("one-clip-reader", f"a second one through '{name}'")
        self._reads_clip = True
        _, channels, *size = self.graph.shapes[self.clip]
        self.schedule.append(InputOp(tensor, int(channels or 0), triple(size), block))

    def only_reader(self, name: str) -> NodeProto | None:
        """Return the single node that reads a tensor; None if there are more, or if it is an output of the graph."""
        readers = self._readers[name]
        return readers[0] if len(readers) == 1 and name not in self._results else None

    def float_tensor(self, name: str) -> FloatTensor:
        """Return a tensor in float, dequantized or computed if it is not available so far."""
        if name not in self.floats:
            self.floats[name] = self._make_float(name)
        return self.floats[name]

    def _make_float(self, name: str) -> FloatTensor:
        if (constant := self.graph.constant(name)) is not None:
            return FloatTensor(size4(name, constant.shape), channels_last(constant))
        if (slices := self.read_slices(name)) is not None:
            to = FloatTensor((*slices[0].tensor.size, sum(part.count for part in slices)))
            self.schedule.append(DequantizeOp(slices, to))
            return to
        if (conv := self.convs.get(name)) is not None:
            conv.unquantized = conv.unquantized or FloatTensor((*conv.out_size, len(conv.weights)))
            return conv.unquantized
        if name in self.adds:
            to = FloatTensor(self.size(name))
            self.fuse_add(name, to)
            return to
        got = f"the clip '{name}' in float" if name == self.clip else f"'{name}'"
        raise UnmetRequirement("readable-input", got)

    def compute(self, name: str, op: FloatOp) -> None:
        """Append a float operation whose result is the ONNX tensor `name`."""
        self.schedule.append(op)
        self.floats[name] = op.to

    def can_fuse_add(self, name: str) -> bool:
        """Return whether a tensor can be an input of a fused addition."""
        if name in self.floats:
            return False
        if name in self.adds:  # its inputs are added instead, and a ReLU in between would be lost
            return not self.adds[name].relu
        return name in self.slices or name in self.convs

    def fuse_add(self, name: str, to: Tensor) -> None:
        """Let convolutions compute the pending addition `name` into `to`; raises UnmetRequirement."""
        inputs = self._add_inputs(name)
        convs = [self.convs[each] for each in inputs if each in self.convs]
        addends = [slices for each in inputs if each not in self.convs and (slices := self.read_slices(each))]
        try:
            fuse_add(self.schedule, convs, addends, to, relu=self.adds[name].relu)
        except UnmetRequirement as error:
            raise UnmetRequirement(error.requirement, error.got, self.adds[name].layer) from error

    def _add_inputs(self, name: str) -> list[str]:
        """Return the inputs of an addition, nested additions flattened."""
        if name not in self.adds:
            return [name]
        return [leaf for each in self.adds[name].inputs for leaf in self._add_inputs(each)]
