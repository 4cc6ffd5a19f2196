"""What every attention module of a network weighs in one clip."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeact.export.models.attention.base import Gate
from edgeact.export.models.attention.eca import LocalGate
from edgeact.export.models.attention.fsam import Fam
from edgeact.export.models.attention.se import SqueezeExcitation
from edgeact.export.models.attention.se_sa import SelfAttention

__all__ = ["Frequency", "ModuleWeights", "Weights", "collect"]

Weights = NDArray[np.float32]

# By whether there are several weights of channels, frames and positions.
_KINDS = {
    (True, False, False): "channel attention",
    (False, True, False): "frame attention",
    (False, False, True): "space-time attention",
    (False, True, True): "space-time attention",
    (True, True, True): "gate of every value",
}


@dataclass(frozen=True)
class Frequency:
    """The mean weight of the channels that FAM squeezes with one 2-D DCT frequency."""

    row: int
    """Half waves along H."""
    column: int
    """Half waves along W."""
    channels: int
    weight: float


@dataclass(frozen=True, eq=False)
class ModuleWeights:
    """What one module weighed; None for what it has a single weight for. Each is the mean over all other axes."""

    path: str
    stage: int
    kind: str
    channels: Weights | None = None
    """`(C,)`."""
    frames: Weights | None = None
    """`(T',)`, where the features are T' frames long."""
    maps: Weights | None = None
    """`(T', H', W')`; of self-attention: how much a position is looked at, where 1 is the mean of its frame."""
    strongest: int | None = None
    """The channel with the largest weight, of those a channel gate weighs."""
    features: Weights | None = None
    """`(T', H', W')`: what that channel holds before it is weighed."""
    frequencies: tuple[Frequency, ...] = ()


def collect(module: nn.Module, clip: Tensor) -> tuple[ModuleWeights, ...]:
    """Run one clip `(1, 3, T, H, W)` through `module` and look at every gate and self-attention, in order of use."""
    found: list[ModuleWeights] = []
    names = {part: name for name, part in module.named_modules() if isinstance(part, (Gate, SelfAttention))}

    def look(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(part, SelfAttention):
            found.append(_self_attention(names[part], part, inputs[0]))
        elif isinstance(part, Gate):
            found.append(_gate(names[part], part, inputs[0]))

    handles = [part.register_forward_pre_hook(look) for part in names]
    try:
        with torch.no_grad():
            module(clip)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found)


def _gate(path: str, gate: Gate, x: Tensor) -> ModuleWeights:
    weights = gate.weights(x)[0]
    several = (weights.shape[0] > 1, weights.shape[1] > 1, weights.shape[2] * weights.shape[3] > 1)
    channels = weights.mean(dim=(1, 2, 3)) if several[0] else None
    strongest = int(channels.argmax()) if channels is not None and not several[2] else None
    return ModuleWeights(
        path,
        _stage(path),
        _kind(gate, several),
        _array(channels),
        _array(weights.mean(dim=(0, 2, 3)) if several[1] else None),
        _array(weights.mean(dim=0) if several[2] else None),
        strongest,
        None if strongest is None else _array(x[0, strongest]),
        _frequencies(gate, channels) if isinstance(gate, Fam) and channels is not None else (),
    )


def _kind(gate: Gate, several: tuple[bool, bool, bool]) -> str:
    if isinstance(gate, Fam):
        return "frequency attention"
    if isinstance(gate, (SqueezeExcitation, LocalGate)):  # of a single frame, too
        return f"{gate.along.removesuffix('s')} attention"
    return _KINDS.get(several, "attention")


def _self_attention(path: str, part: SelfAttention, x: Tensor) -> ModuleWeights:
    weights = part.weights(x)[0]
    seen = weights.mean(dim=1) * weights.shape[2]
    return ModuleWeights(path, _stage(path), "self-attention", maps=_array(seen.reshape(-1, *x.shape[3:])))


def _frequencies(fam: Fam, channels: Tensor) -> tuple[Frequency, ...]:
    """Low ones first; parts that a small map gives the same frequency are one."""
    parts = channels.reshape(len(fam.pairs), -1)
    rows = []
    for pair in sorted(set(fam.pairs), key=lambda pair: (sum(pair), pair)):
        own = parts[[index for index, other in enumerate(fam.pairs) if other == pair]]
        rows.append(Frequency(*pair, own.numel(), float(own.mean())))
    return tuple(rows)


def _stage(path: str) -> int:
    found = re.search(r"(?:^|\.)stages\.(\d+)", path)
    return int(found[1]) + 1 if found else 1


def _array(values: Tensor | None) -> Weights | None:
    """A copy, since networks overwrite their features."""
    return None if values is None else values.detach().clone().numpy()
