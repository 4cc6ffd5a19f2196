"""The ranges that activations are rounded to INT8 in, as calibration finds them and as they are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeact.records import Fraction, Record

__all__ = ["STEPS", "MethodName", "Ranges", "TensorRange"]

STEPS = 127
"""Steps of symmetric int8 on either side of 0."""

MethodName = Literal["minmax"]


class TensorRange(Record):
    """The range of one activation."""

    layer: str = Field(description="the first quantized layer that reads or makes the tensor")
    low: float = Field(description="smallest value seen")
    high: float = Field(description="largest value seen")
    limit: float = Field(ge=0, description="INT8 represents -limit to limit; what lies beyond is clipped")
    clipped: Fraction = Field(default=0.0, description="share of the values seen that lie beyond")

    @property
    def scale(self) -> float:
        """The step of int8."""
        return self.limit / STEPS


class Ranges(Record):
    """The ranges of a graph's activations."""

    method: MethodName
    clips: int = Field(ge=1)
    tensors: dict[str, TensorRange] = Field(description="by tensor name, in the graph's order")
