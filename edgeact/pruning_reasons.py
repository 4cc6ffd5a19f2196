"""Typed reasons why pruning keeps all output channels of a layer; `edgeact.phrases.phrase` gives the English."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["KeepReason", "ReasonKind"]


class ReasonKind(str, Enum):
    """The kinds of reasons; the values are stored in pruning plans."""

    model_output = "model-output"
    model_input = "model-input"
    not_followed = "not-followed"
    free_parameter = "free-parameter"
    unsupported_layer = "unsupported-layer"
    transposed = "transposed"
    partly_coupled = "partly-coupled"
    uneven_groups = "uneven-groups"
    not_reached = "not-reached"
    no_channel_parameters = "no-channel-parameters"
    excluded = "excluded"
    too_narrow = "too-narrow"
    more_important = "more-important"
    needed_to_run = "needed-to-run"


@dataclass(frozen=True)
class KeepReason:
    """Why all output channels of a layer remain."""

    kind: ReasonKind
    subject: str = ""
    """The layer, operator, number or error that the sentence names."""
