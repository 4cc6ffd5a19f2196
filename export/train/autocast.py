"""Whether a module trains in bfloat16 on its device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeact.export.models.hooks import evaluated, forward_hooks
from edgeact.export.train.batches import center_crop_batches
from edgeact.export.train.frame_cache import PreparedVideos
from edgeact.export.train.plan import TrainPlan

__all__ = ["bfloat16_autocast", "device_of", "is_accurate_in_bfloat16"]

# Relative error of a convolution whose inputs and weights have bfloat16's 8 significant bits is below 1 %.
_MAX_ERROR = 0.03


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the module's first parameter."""
    return next(module.parameters()).device


def bfloat16_autocast(module: nn.Module, videos: PreparedVideos, plan: TrainPlan) -> torch.autocast:
    """Return a bfloat16 autocast, enabled if the module's device supports the type and computes accurately in it."""
    device = device_of(module)
    enabled = _supports_bfloat16(device)
    if enabled:
        clips, _ = next(center_crop_batches(videos, plan, device))
        enabled = is_accurate_in_bfloat16(module, clips)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def _supports_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_mkldnn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_accurate_in_bfloat16(module: nn.Module, clips: Tensor) -> bool:
    """Check that every 3-D convolution gives in bfloat16 what it gives in float32, up to rounding.

    `clips` are float32 `(N, 3, T, H, W)` on the module's device. With torch 2.13 on CPUs with AMX, 3x3x3 convolutions
    of single-frame activations leave part of their output unwritten for some channel counts (7, 12, 14, ...): the loss
    becomes NaN, or silently wrong.
    """
    errors: list[float] = []

    def compare(_name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        with torch.autocast(output.device.type, enabled=False):
            expected = layer.forward(inputs[0].float())
        errors.append(float((output.float() - expected).norm() / expected.norm().clamp(min=1e-20)))

    convolutions = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv3d)}
    autocast = torch.autocast(clips.device.type, torch.bfloat16)
    with evaluated(module), forward_hooks(convolutions, compare), torch.no_grad(), autocast:
        module(clips)
    return all(error < _MAX_ERROR for error in errors)  # False for NaN
