"""EAM, the efficient attention module: channels (EAM-S) and frames (EAM-T) weighted by their neighbors, and a residual.

Paper: An Efficient Attention Module for 3D Convolutional Neural Networks in Action Recognition, section 3.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from edgeact.export.models.attention.base import Site
from edgeact.export.models.attention.eca import LocalGate, OddKernel
from edgeact.export.models.part_options import AttentionOptions

__all__ = ["Eam", "EamOptions", "eam"]

Order = Literal["st", "ts", "s", "t", "parallel"]
_ALONG: dict[str, Literal["channels", "frames"]] = {"s": "channels", "t": "frames"}


class Eam(nn.Module):
    """EAM-ST and its variants of table 2: V + V'', equation 3, around the gates (equations 1, 2, 4 to 11).

    One after the other, the second module sees what the first has weighed. Parallel, both see V and the sum of both
    is V''; the paper says no more than 'with fusion'. The paper's transpositions only bring frames where its pooling
    expects channels, and back; here each module pools over its own axes.
    """

    def __init__(self, order: Order = "st", kernel: int = 3) -> None:
        super().__init__()
        self.parallel = order == "parallel"
        letters = "st" if self.parallel else order
        self.gates = nn.ModuleDict({letter: LocalGate(_ALONG[letter], kernel, peaks=True) for letter in letters})

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation plus the weighted activation, same shape."""
        if self.parallel:
            return sum((gate(x) for gate in self.gates.values()), start=x)
        weighed = x
        for gate in self.gates.values():
            weighed = gate(weighed)
        return x + weighed


class EamOptions(AttentionOptions):
    """Options of EAM."""

    order: Order = "st"
    """st: EAM-S, then EAM-T (the paper's choice); ts: the reverse; s, t: one alone; parallel: both at once."""
    kernel: Annotated[OddKernel, Field(ge=3, le=9)] = 3
    """Kernel size over channels and over frames."""


def eam(site: Site, options: EamOptions) -> nn.Module:
    """Build EAM for a site."""
    return Eam(options.order, options.kernel)
