"""What a configuration would take on a board that is not at hand: an estimate, and called one wherever it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from edgeact.devices import DeviceProfile, estimate_latency_ms
from edgeact.errors import UsageError
from edgeact.export.models.cost import measure_cost
from edgeact.records import Precision

__all__ = ["estimate_ms"]

_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}


def estimate_ms(
    module: nn.Module, input_shape: Sequence[int], profile: DeviceProfile, precision_of: Callable[[str], Precision]
) -> float:
    """The sum of the rooflines of all layers, each in the precision of its name, and of what is in no layer, as fp16.

    Layers that share weights or run into each other are not looked at, nor what a kernel makes of a width.
    UsageError where the profile does not have the peak rates.
    """
    counted: dict[str, tuple[int, int]] = {}

    def count(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        macs, elements = counted.get(name, (0, 0))
        own = layer.get_parameter("weight")
        macs += output.numel() // own.shape[0] * own.numel()
        counted[name] = macs, elements + inputs[0].numel() + output.numel() + own.numel()

    handles = [
        layer.register_forward_hook(lambda layer, inputs, output, name=name: count(name, layer, inputs, output))
        for name, layer in module.named_modules()
        if isinstance(layer, (_ConvNd, nn.Linear))
    ]
    try:
        with torch.no_grad():
            cost = measure_cost(module, input_shape)
    finally:
        for handle in handles:
            handle.remove()
    rest = cost.macs - sum(macs for macs, _ in counted.values())
    parts = [(macs, elements, precision_of(name)) for name, (macs, elements) in counted.items()]
    return sum(_part_ms(profile, *part) for part in (*parts, (max(rest, 0), 0, "fp16")))


def _part_ms(profile: DeviceProfile, macs: int, elements: int, precision: Precision) -> float:
    estimate = estimate_latency_ms(profile, macs, elements * _BYTES[precision], precision)
    if estimate is None:
        raise UsageError(
            f"{profile.title} is not at hand, and no peak rate in {precision} is known to estimate its latency by; "
            "search on the device itself, or for a target whose rates are known (edgeact targets NAME)"
        )
    return estimate.latency_ms
