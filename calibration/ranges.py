"""The ranges that activations are rounded to INT8 in: what is known of them, and whether more clips would move them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from edgeact.calibration.range_methods import INT8_MAX, MethodName
from edgeact.records import Fraction, Record

__all__ = ["INT8_MAX", "TOLERANCE", "Ranges", "TensorRange", "checkpoints", "settled"]

TOLERANCE = 0.05
"""A limit has settled where the second half of the clips moved it by no more than this share of itself.

So much more of a step is 0.4 dB more of rounding noise.
"""

_FIRST_CHECKPOINT = 8


class TensorRange(Record):
    """The range of one activation."""

    layer: str = Field(description="the first quantized layer that reads or makes the tensor")
    low: float = Field(description="smallest value seen")
    high: float = Field(description="largest value seen")
    limit: float = Field(ge=0, description="INT8 represents -limit to limit; what lies beyond is clipped")
    clipped: Fraction = Field(default=0.0, description="share of the values seen that lie beyond")
    last_change: float = Field(default=0.0, ge=0, description="by which the second half of the clips moved the limit")
    settled_after: int | None = Field(default=None, ge=1, description="clips; None: the second half moved it too far")

    @property
    def scale(self) -> float:
        """The step of int8."""
        return self.limit / INT8_MAX


class Ranges(Record):
    """The ranges of a graph's activations."""

    method: MethodName
    clips: int = Field(ge=1)
    tensors: dict[str, TensorRange] = Field(description="by tensor name, in the graph's order")

    @property
    def settled_after(self) -> int | None:
        """Clips after which every limit stayed within TOLERANCE of its end; None where one did not."""
        counts = [tensor.settled_after for tensor in self.tensors.values()]
        return None if None in counts else max((count for count in counts if count), default=1)

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Tensors whose limit still moved in the second half of the clips, the one that moved furthest first."""
        moving = [name for name, tensor in self.tensors.items() if tensor.settled_after is None]
        return tuple(sorted(moving, key=lambda name: -self.tensors[name].last_change))

    @property
    def summary(self) -> str:
        """One sentence on whether the ranges have settled."""
        if self.settled_after is not None:
            return f"the ranges settled after {self.settled_after} of {self.clips} clips"
        worst = self.unsettled[0]
        return (
            f"the ranges have not settled: {len(self.unsettled)} of {len(self.tensors)} still moved by more than "
            f"{TOLERANCE:.0%} in the second half of {self.clips} clips, most that of '{worst}', by "
            f"{self.tensors[worst].last_change:.1%}; calibrate on more clips"
        )


def checkpoints(clips: int) -> tuple[int, ...]:
    """After how many of the clips limits are looked at, ascending: 8, 12, 16, 24, 32, ..., the half, and all."""
    steps, count = {max(1, clips // 2), clips}, _FIRST_CHECKPOINT
    while count < clips:
        steps |= {count, count * 3 // 2}
        count *= 2
    return tuple(sorted(step for step in steps if step <= clips))


def settled(limits: Mapping[int, float]) -> tuple[float, int | None]:
    """How far the second half of the clips moved a limit, as a share of it; and after how many clips it was settled.

    `limits` is the limit by number of clips, at `checkpoints`. It has settled where it never again left TOLERANCE
    around its end, and the second half of the clips was seen to bear that out; else None.
    """
    counts = sorted(limits)
    end, half = limits[counts[-1]], max(1, counts[-1] // 2)
    changes = {count: abs(limits[count] - end) / end if end else 0.0 for count in counts}
    last_change = max(changes[count] for count in counts if count >= half)
    if last_change > TOLERANCE or counts[-1] == 1:
        return last_change, None
    moving = [count for count in counts if changes[count] > TOLERANCE]
    return last_change, min(count for count in counts if count > max(moving, default=0))
