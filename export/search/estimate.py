"""Latency estimate of a configuration on a target that is not at hand; always shown as an estimate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from edgeact.devices import DeviceProfile, estimate_latency_ms
from edgeact.errors import UsageError
from edgeact.export.models.cost import measure_cost
from edgeact.precision import Precision

__all__ = ["estimate_ms"]

_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}


def estimate_ms(
    module: nn.Module, input_shape: Sequence[int], profile: DeviceProfile, precision_of: Callable[[str], Precision]
) -> float:
    """Return the sum of the rooflines of all layers, each in its precision, in ms.

    Operations outside layers count as FP16. Ignores fusion, weight sharing and width-dependent kernel efficiency.
    Raises UsageError if the profile lacks the peak rates.
    """
    cost = measure_cost(module, input_shape)
    rest = cost.macs - sum(layer.macs for layer in cost.layers)
    parts = [(layer.macs, layer.elements_moved, precision_of(layer.name)) for layer in cost.layers]
    return sum(_part_ms(profile, *part) for part in (*parts, (rest, 0, "fp16")))


def _part_ms(profile: DeviceProfile, macs: int, elements: int, precision: Precision) -> float:
    estimate = estimate_latency_ms(profile, macs, elements * _BYTES[precision], precision)
    if estimate is None:
        raise UsageError(
            f"{profile.title} is not at hand, and no peak rate in {precision} is known to estimate its latency by; "
            "search on the device itself, or for a target whose rates are known (edgeact targets NAME)"
        )
    return estimate.latency_ms
