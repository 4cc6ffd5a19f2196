"""Activation ranges for INT8, and whether more calibration clips would change them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from edgeact.calibration.range_methods import INT8_MAX, MethodName
from edgeact.records import Fraction, Record

__all__ = ["INT8_MAX", "TOLERANCE", "Ranges", "TensorRange", "checkpoints", "settled"]

TOLERANCE = 0.05
"""A limit has settled if the second half of the clips changed it by no more than this fraction.

A quantization scale larger by this fraction adds 0.4 dB of rounding noise.
"""

_FIRST_CHECKPOINT = 8


class TensorRange(Record):
    """The range of one activation."""

    layer: str = Field(description="first quantized layer that reads or writes the tensor")
    low: float = Field(description="smallest observed value")
    high: float = Field(description="largest observed value")
    limit: float = Field(ge=0, description="INT8 represents -limit to limit; values beyond are clipped")
    clipped: Fraction = Field(default=0.0, description="fraction of the observed values beyond the limit")
    last_change: float = Field(
        default=0.0, ge=0, description="relative change of the limit by the second half of the clips"
    )
    settled_after: int | None = Field(default=None, ge=1, description="clips; None: the limit has not settled")

    @property
    def scale(self) -> float:
        """The quantization scale of INT8; the zero point is 0."""
        return self.limit / INT8_MAX


class Ranges(Record):
    """The activation ranges of a graph."""

    method: MethodName
    clips: int = Field(ge=1)
    tensors: Mapping[str, TensorRange] = Field(description="by tensor name, in the order of the graph")

    @property
    def settled_after(self) -> int | None:
        """The number of clips after which each limit stayed within TOLERANCE; None if a limit has not settled."""
        counts = [tensor.settled_after for tensor in self.tensors.values()]
        return None if None in counts else max((count for count in counts if count), default=1)

    @property
    def unsettled(self) -> tuple[str, ...]:
        """The tensors whose limit has not settled, the largest change first."""
        moving = [name for name, tensor in self.tensors.items() if tensor.settled_after is None]
        return tuple(sorted(moving, key=lambda name: -self.tensors[name].last_change))

    @property
    def summary(self) -> str:
        """A sentence on whether the ranges have settled."""
        if self.settled_after is not None:
            return f"the ranges settled after {self.settled_after} of {self.clips} clips"
        worst = self.unsettled[0]
        return (
            f"the ranges have not settled: the second half of {self.clips} clips changed {len(self.unsettled)} of "
            f"{len(self.tensors)} by more than {TOLERANCE:.0%}, the largest change is that of '{worst}', "
            f"{self.tensors[worst].last_change:.1%}; calibrate on more clips"
        )


def checkpoints(clips: int) -> tuple[int, ...]:
    """Return the numbers of clips after which limits are recorded, ascending: 8, 12, 16, 24, 32 ..., half and all."""
    counts, count = {max(1, clips // 2), clips}, _FIRST_CHECKPOINT
    while count < clips:
        counts |= {count, count * 3 // 2}
        count *= 2
    return tuple(sorted(count for count in counts if count <= clips))


def settled(limits: Mapping[int, float]) -> tuple[float, int | None]:
    """Return the relative change of a limit by the second half of the clips, and the number of clips until it settled.

    `limits` maps numbers of clips, those of `checkpoints`, to the limit. The limit settled at the first checkpoint from
    which on it stays within TOLERANCE of its final value. None if the second half of the clips changed it by more, or
    if there is only one clip.
    """
    counts = sorted(limits)
    end, half = limits[counts[-1]], max(1, counts[-1] // 2)
    changes = {count: abs(limits[count] - end) / end if end else 0.0 for count in counts}
    last_change = max(changes[count] for count in counts if count >= half)
    if last_change > TOLERANCE or counts[-1] == 1:
        return last_change, None
    moving = [count for count in counts if changes[count] > TOLERANCE]
    return last_change, min(count for count in counts if count > max(moving, default=0))
