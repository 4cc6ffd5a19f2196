"""What a module answers about its channels: how pruning traces it, and what it changes when channels are removed.

Pruning follows channels through convolutions, linear layers, batch norms, elementwise sums and products,
`torch.split` and `torch.cat`, and cuts those layers itself. A module that computes anything else with channels, such as
a mean over channels, a product of matrices or a Fourier transform, implements `Prunable`. A module that holds counts
of the channels of its layers implements `CutListener`. Both are found by their methods; no registration is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from edgeact.export.models.pruning.plan import KeptChannels, LayerCut

__all__ = ["CutListener", "Prunable"]


@runtime_checkable
class Prunable(Protocol):
    """A module of which output channel i belongs to input channel i, for every i."""

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what the dependency graph is shown in the place of `forward(x)`, `x` being `(N, C, T, H, W)`.

        The first tensor stands for the output and has its shape. Each further tensor stands for a result that is not
        tied to the output's channels, and keeps the layers behind it in the graph. Only operators and shapes matter,
        values do not: the tensors may differ from what `forward` computes. Called under autograd, in evaluation mode.
        """

    def remove_channels(self, kept: KeptChannels) -> None:
        """Adapt buffers and weights in place to an input of which only the channels `kept` remain.

        Convolutions, linear layers and batch norms inside are cut separately, as traced. Called without gradients.
        Raises ModelError if `kept` is of another number of channels.
        """


@runtime_checkable
class CutListener(Protocol):
    """A module with state that depends on the widths of its layers."""

    def layers_cut(self, cuts: Mapping[str, LayerCut]) -> None:
        """Adapt in place to `cuts`, by layer path relative to this module; called after all layers are cut."""
