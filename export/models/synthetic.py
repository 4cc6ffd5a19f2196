"""Untrained models with activations of a size, and made-up clips to look at them with."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from edgeact.clip import ClipSpec

__all__ = ["calibrate_batch_norm", "synthetic_clips"]

_FEWEST = 4  # clips to take statistics of
_POSITIONS = 16  # a channel's variance is taken over at least about so many values, in the smallest map
_STRIDES = (16, 32, 32)  # of the smallest map
_BLOB = 8  # pixels
_NOISE = 0.25
_SHIFT = 1.0  # deviations above 0: five of six values pass a ReLU


def synthetic_clips(clip: ClipSpec, count: int, seed: int = 0) -> list[npt.NDArray[np.float32]]:
    """Moving blobs with some noise, of the size that normalized videos have: `count` inputs of a model."""
    generator = torch.Generator().manual_seed(seed)
    size = (clip.clip_frames, *clip.crop)
    coarse = [max(size[0] // 2, 1), *(max(edge // _BLOB, 2) for edge in size[1:])]
    made = []
    for _ in range(count):
        blobs = functional.interpolate(torch.randn(1, 3, *coarse, generator=generator), size=size, mode="trilinear")
        blobs = blobs / blobs.std().clamp(min=1e-3)
        made.append((blobs + _NOISE * torch.randn(blobs.shape, generator=generator)).numpy())
    return made


def calibrate_batch_norm(module: nn.Module, clip: ClipSpec, seed: int = 0) -> None:
    """Make rounding errors in an untrained module about as harmless as in a trained one; only batch norms change.

    As they are made, norms pass on what they get, and activations grow or vanish with depth: here they get the
    statistics of made-up clips. A ReLU that halves what a norm has centred multiplies an error's share of the power by
    1.47, 70 dB through ResNeXt-101; with a bias of one deviation by 1.12. A module without norms stays as it is.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if not norms:
        return
    training, momenta = module.training, [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    try:
        with torch.no_grad():
            for norm in norms:
                norm.bias.fill_(_SHIFT)
            module(torch.from_numpy(np.concatenate(synthetic_clips(clip, _count(clip), seed))))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.train(training)


def _count(clip: ClipSpec) -> int:
    extent = zip((clip.clip_frames, *clip.crop), _STRIDES, strict=True)
    return max(_FEWEST, _POSITIONS // math.prod(math.ceil(edge / stride) for edge, stride in extent))
