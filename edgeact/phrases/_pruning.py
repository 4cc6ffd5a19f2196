"""Sentences of reasons why pruning keeps all output channels of a layer."""

from __future__ import annotations

from edgeact.phrases._phrase import phrase
from edgeact.pruning_reasons import KeepReason, ReasonKind

__all__: list[str] = []

_SENTENCES = {
    ReasonKind.model_output: "the output channels are the model's output",
    ReasonKind.model_input: "the output channels are added to the model's input",
    ReasonKind.not_followed: "channels cannot be followed through {}; expected torch.split, torch.cat, elementwise "
    "operators, or a module that defines trace_channels",
    ReasonKind.free_parameter: "the channels are combined with a parameter outside of any layer; expected parameters "
    "of convolutions, linear layers and batch norms",
    ReasonKind.unsupported_layer: "the channels reach {}; expected convolutions, linear layers and batch norms",
    ReasonKind.transposed: "the channels reach '{}', a transposed convolution, which pruning does not support",
    ReasonKind.partly_coupled: "only some channels of the grouped convolution '{}' are coupled with these",
    ReasonKind.uneven_groups: "the groups of grouped convolutions would keep unequal numbers of channels",
    ReasonKind.not_reached: "the dependency graph does not reach the layer; is it called in forward?",
    ReasonKind.no_channel_parameters: "attention weights computed from means, maxima or neighbors of channels: no "
    "parameter belongs to a single channel",
    ReasonKind.excluded: "excluded: the requested ratio is 0",
    ReasonKind.too_narrow: "too few channels to reach a lower multiple of {}",
    ReasonKind.more_important: "every channel is more important than those removed elsewhere",
    ReasonKind.needed_to_run: "the model does not run with fewer of these channels: {}",
}


@phrase.register
def _(reason: KeepReason) -> str:
    return _SENTENCES[reason.kind].format(reason.subject)
