"""Replace modules by their traceable form while the dependency graph is built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from edgeact.export.models.pruning.prunable import Prunable
from edgeact.export.prune.dependency_graph import ChannelTap

__all__ = ["surrogates"]


class _Surrogate(nn.Module):
    """Calls `trace_channels` of a module in the place of its `forward`, behind a tap that bears the module's path."""

    def __init__(self, name: str, module: Prunable, results: list[Tensor]) -> None:
        super().__init__()
        self.tap = ChannelTap(name)
        self.module = module
        self.results = results

    def forward(self, x: Tensor) -> Tensor:
        output, *others = self.module.trace_channels(self.tap(x))
        self.results += others
        return output


@contextlib.contextmanager
def surrogates(module: nn.Module) -> Iterator[list[Tensor]]:
    """Put a surrogate in the place of every `Prunable` inside `module` until exit.

    Yields the list that a run of the module fills with the results tied to no output channel: they are to be traced
    along with the output.
    """
    results: list[Tensor] = []
    parts = dict(module.named_modules())
    prunable = {name: part for name, part in parts.items() if name and isinstance(part, Prunable)}
    try:
        for name, part in prunable.items():
            _replace(module, name, _Surrogate(name, part, results))
        yield results
    finally:
        for name in prunable:
            _replace(module, name, parts[name])


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    module.get_submodule(parent).register_module(child, part)
