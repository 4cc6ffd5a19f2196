"""Program order of the operations, and which operation writes each tensor."""

from __future__ import annotations

from collections import defaultdict
from itertools import count

from edgeact.export.cpu.native.ir import ConvOp, FusedAdd, Op, QuantizedTensor, Tensor

__all__ = ["Schedule"]


class Schedule:
    """Operations in the order in which they run."""

    def __init__(self) -> None:
        self._positions: dict[Op, int] = {}
        self._next_position = count()
        self._writers: defaultdict[Tensor, list[Op]] = defaultdict(list)
        self._convs: dict[QuantizedTensor, ConvOp] = {}

    def append(self, op: Op) -> None:
        """Run `op` after all operations so far."""
        self._positions[op] = next(self._next_position)
        if not isinstance(op, ConvOp):
            self._writers[op.to].append(op)

    def move_to_end(self, op: Op) -> None:
        """Run `op` after all other operations so far."""
        self._positions[op] = next(self._next_position)

    def set_quantized(self, conv: ConvOp, tensor: QuantizedTensor) -> None:
        """Let `conv` store all its outputs in `tensor`."""
        conv.quantized = tensor
        self._convs[tensor] = conv
        self._writers[tensor].append(conv)

    def add_fused(self, conv: ConvOp, add: FusedAdd) -> None:
        """Let `conv` compute an addition in its epilogue."""
        conv.adds.append(add)
        self._writers[add.to].append(conv)

    def position(self, op: Op) -> int:
        """Return a number that grows in program order."""
        return self._positions[op]

    def conv_of(self, tensor: QuantizedTensor) -> ConvOp | None:
        """Return the convolution whose plain outputs are `tensor`, or None."""
        return self._convs.get(tensor)

    def is_written_before(self, tensor: Tensor, op: Op) -> bool:
        """Return whether `tensor` is complete before `op` runs."""
        writers = self._writers[tensor]
        return bool(writers) and all(self.position(writer) < self.position(op) for writer in writers)

    def ops(self) -> list[Op]:
        """Return all operations in program order."""
        return sorted(self._positions, key=self._positions.__getitem__)
