"""All attention modules by name: one literal table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgeact.errors import UnknownNameError
from edgeact.export.models.attention.base import Attention, Site
from edgeact.export.models.attention.cbam import cbam
from edgeact.export.models.attention.eam import EamChoices, eam
from edgeact.export.models.attention.eca import EcaChoices, eca
from edgeact.export.models.attention.fsam import FsamChoices, fsam
from edgeact.export.models.attention.gate import gate
from edgeact.export.models.attention.nst import NstChoices, nst
from edgeact.export.models.attention.se import SeChoices, se
from edgeact.export.models.attention.se_sa import SeSaChoices, se_sa
from edgeact.export.models.choices import AttentionChoices

__all__ = ["ATTENTIONS", "AttentionSpec", "find_attention"]


@dataclass(frozen=True)
class AttentionSpec:
    """One row of the table."""

    name: str
    build: Callable[[Site, Any], nn.Module]
    """Makes the module for a site from an instance of `choices`."""
    source: str
    """Paper, section, equation."""
    choices: type[AttentionChoices] = AttentionChoices

    def at(self, choices: AttentionChoices, stages: int) -> Attention:
        """The module with these choices in a backbone of so many stages, after those that the choices name."""
        return lambda site: self.build(site, choices) if choices.stands_after(site.stage, stages) else None


ATTENTIONS: dict[str, AttentionSpec] = {
    spec.name: spec
    for spec in (
        AttentionSpec("fsam", fsam, "MSF-R3D+FSAM, section 3.2", FsamChoices),
        AttentionSpec("nst", nst, "Nesting spatiotemporal attention networks, as MSF-R3D describes them", NstChoices),
        AttentionSpec("gate", gate, "3-D CNN with attention gate, section 2"),
        AttentionSpec("se", se, "Squeeze-and-Excitation Networks, section 3", SeChoices),
        AttentionSpec("eca", eca, "ECA-Net, section 3", EcaChoices),
        AttentionSpec("cbam", cbam, "CBAM, section 3, in three dimensions", SeChoices),
        AttentionSpec("se-sa", se_sa, "SE and SA, section 3, equations 1 to 6, figures 3 and 4", SeSaChoices),
        AttentionSpec("eam", eam, "EAM, section 3, equations 1 to 11", EamChoices),
    )
}


def find_attention(name: str) -> AttentionSpec:
    """The row called `name`; UnknownNameError with the nearest names otherwise."""
    try:
        return ATTENTIONS[name]
    except KeyError:
        raise UnknownNameError("attention", name, ATTENTIONS) from None
