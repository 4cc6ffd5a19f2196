"""All attentions by name: one literal table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from edgeact.errors import UnknownNameError
from edgeact.export.models.attention.base import AttentionBuilder
from edgeact.export.models.attention.cbam import cbam
from edgeact.export.models.attention.eam import EamOptions, eam
from edgeact.export.models.attention.eca import EcaOptions, eca
from edgeact.export.models.attention.fsam import FsamOptions, fsam
from edgeact.export.models.attention.gate import gate
from edgeact.export.models.attention.nst import NstOptions, nst
from edgeact.export.models.attention.se import SeOptions, se
from edgeact.export.models.attention.se_sa import SeSaOptions, se_sa
from edgeact.export.models.part_options import AttentionOptions

__all__ = ["ATTENTIONS", "AttentionSpec", "find_attention"]


@dataclass(frozen=True)
class AttentionSpec:
    """One row of the table."""

    name: str
    build: Callable[..., nn.Module]
    """Builds the module from a `Site` and an instance of `options`."""
    source: str
    """Paper, section, equation."""
    options: type[AttentionOptions] = AttentionOptions

    def builder(self, options: AttentionOptions, stages: int) -> AttentionBuilder:
        """Return the builder for a backbone of `stages` stages, which builds a module after the stages of `options`."""
        return lambda site: self.build(site, options) if options.stands_after(site.stage, stages) else None


ATTENTIONS: dict[str, AttentionSpec] = {
    spec.name: spec
    for spec in (
        AttentionSpec("fsam", fsam, "MSF-R3D+FSAM, section 3.2", FsamOptions),
        AttentionSpec("nst", nst, "Nesting spatiotemporal attention networks, as MSF-R3D describes them", NstOptions),
        AttentionSpec("gate", gate, "3-D CNN with attention gate, section 2"),
        AttentionSpec("se", se, "Squeeze-and-Excitation Networks, section 3", SeOptions),
        AttentionSpec("eca", eca, "ECA-Net, section 3", EcaOptions),
        AttentionSpec("cbam", cbam, "CBAM, section 3, in three dimensions", SeOptions),
        AttentionSpec("se-sa", se_sa, "SE and SA, section 3, equations 1 to 6, figures 3 and 4", SeSaOptions),
        AttentionSpec("eam", eam, "EAM, section 3, equations 1 to 11", EamOptions),
    )
}


def find_attention(name: str) -> AttentionSpec:
    """Return the row called `name`; raises UnknownNameError, which names the nearest."""
    try:
        return ATTENTIONS[name]
    except KeyError:
        raise UnknownNameError("attention", name, ATTENTIONS) from None
