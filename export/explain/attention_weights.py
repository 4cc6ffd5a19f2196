"""Collect the weights of every attention module of a network on one clip."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeact.export.models.attention.base import AttentionModule, Frequency
from edgeact.export.models.hooks import forward_pre_hooks

__all__ = ["FloatArray", "ModuleWeights", "collect_weights"]

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ModuleWeights:
    """The weights of one module; None for an axis along which all are equal. Each is the mean over all other axes."""

    path: str
    stage: int
    kind: str
    channels: FloatArray | None = None
    """`(C,)`."""
    frames: FloatArray | None = None
    """`(T',)`, T' being the activation's number of frames."""
    maps: FloatArray | None = None
    """`(T', H', W')`."""
    maps_unit: str = ""
    strongest: int | None = None
    """The channel with the largest weight, of a module that weighs channels alike in all positions."""
    activation: FloatArray | None = None
    """`(T', H', W')`: the strongest channel before it is weighed."""
    frequencies: tuple[Frequency, ...] = ()


def collect_weights(module: nn.Module, clip: Tensor) -> tuple[ModuleWeights, ...]:
    """Run one clip `(1, 3, T, H, W)` through `module`; return the weights of its attention modules in order of use."""
    collected: list[ModuleWeights] = []

    def collect(path: str, part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(part, AttentionModule):
            collected.append(_weights_of(path, part, inputs[0]))

    with torch.no_grad(), forward_pre_hooks(dict(module.named_modules()), collect):
        module(clip)
    return tuple(collected)


def _weights_of(path: str, part: AttentionModule, x: Tensor) -> ModuleWeights:
    view = part.view(x)
    strongest = int(view.channels.argmax()) if view.channels is not None and view.positions is None else None
    return ModuleWeights(
        path=path,
        stage=_stage(path),
        kind=view.title,
        channels=_array(view.channels),
        frames=_array(view.frames),
        maps=_array(view.positions),
        maps_unit=view.positions_unit,
        strongest=strongest,
        activation=None if strongest is None else _array(x[0, strongest]),
        frequencies=view.frequencies,
    )


def _stage(path: str) -> int:
    match = re.search(r"(?:^|\.)stages\.(\d+)", path)
    return int(match[1]) + 1 if match else 1


def _array(values: Tensor | None) -> FloatArray | None:
    """Copy, since networks overwrite their activations."""
    return None if values is None else values.detach().clone().numpy()
