"""Context managers for evaluation mode and temporary forward hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from torch import Tensor, nn

__all__ = ["capture_outputs", "evaluated", "forward_hooks", "forward_pre_hooks"]

_Output = TypeVar("_Output")

ForwardHook = Callable[[str, nn.Module, tuple[Tensor, ...], _Output], None]
"""`(name, layer, inputs, output)`, called after every forward call of the layer."""
ForwardPreHook = Callable[[str, nn.Module, tuple[Tensor, ...]], None]
"""`(name, layer, inputs)`, called before every forward call of the layer."""


@contextlib.contextmanager
def evaluated(module: nn.Module) -> Iterator[nn.Module]:
    """Put `module` in evaluation mode and yield it; restore the mode of every submodule on exit.

    Gradients are left to the caller: `with evaluated(module), torch.no_grad(): ...`.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield module.eval()
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def forward_hooks(layers: Mapping[str, nn.Module], hook: ForwardHook[_Output]) -> Iterator[None]:
    """Call `hook` after every forward call of `layers` until exit. The hook must not change the output."""

    def named(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], _Output], None]:
        return lambda layer, inputs, output: hook(name, layer, inputs, output)

    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_hook(named(name)).remove)
        yield


@contextlib.contextmanager
def forward_pre_hooks(layers: Mapping[str, nn.Module], hook: ForwardPreHook) -> Iterator[None]:
    """Call `hook` before every forward call of `layers` until exit. The hook must not change the inputs."""

    def named(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, inputs: hook(name, layer, inputs)

    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(named(name)).remove)
        yield


@contextlib.contextmanager
def capture_outputs(module: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that holds the latest output of each submodule called `names`; the entries share its memory.

    Raises AttributeError if `module` has no submodule of such a name.
    """
    outputs: dict[str, Tensor] = {}

    def capture(name: str, _layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[name] = output

    with forward_hooks({name: module.get_submodule(name) for name in names}, capture):
        yield outputs
