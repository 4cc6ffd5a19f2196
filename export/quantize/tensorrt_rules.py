"""Convolutions that INT8 must keep in float for TensorRT.

The rule is that of NVIDIA's Model Optimizer (`modelopt/onnx/quantization/graph_utils.py`,
`find_nodes_from_convs_to_exclude`, INT8 mode), restated here. With OC output channels and IC input channels per group:

* a convolution whose weight is not constant is kept in float;
* with OC >= 16 and IC >= 16 it is quantized;
* with fewer channels it is quantized only
  - without groups, with a cubic kernel, if OC or IC is a multiple of 8, and if it reads the network's input or OC or
    IC is at least 16;
  - with groups, if every kernel side is >= 3 and OC is a multiple of 8.
"""

from __future__ import annotations

from edgeact.layer_reasons import Int8KernelRequirement, NoInt8Kernel

__all__ = ["int8_exclusion_reason"]

_FULL_CHANNELS = 16
_CHANNEL_MULTIPLE = 8
_GROUPED_KERNEL = 3


def int8_exclusion_reason(weight_shape: tuple[int, ...] | None, group: int, is_first: bool) -> NoInt8Kernel | None:
    """Return why a convolution must be kept in float, or None if INT8 may quantize it.

    `weight_shape` is `(OC, IC per group, *kernel)`, None for a computed weight; `is_first`: the convolution reads the
    network's input.
    """
    if weight_shape is None:
        return NoInt8Kernel(requirement="constant-weight")
    outputs, inputs, *kernel = weight_shape
    requirement = _unmet_requirement(outputs, inputs, tuple(kernel), group, is_first=is_first)
    if requirement is None:
        return None
    return NoInt8Kernel(requirement=requirement, outputs=outputs, inputs=inputs, kernel=tuple(kernel))


def _unmet_requirement(
    outputs: int, inputs: int, kernel: tuple[int, ...], group: int, *, is_first: bool
) -> Int8KernelRequirement | None:
    if min(outputs, inputs) >= _FULL_CHANNELS:
        return None
    if group > 1:
        is_met = outputs % _CHANNEL_MULTIPLE == 0 and min(kernel) >= _GROUPED_KERNEL
        return None if is_met else "grouped-kernel"
    if len(set(kernel)) > 1:
        return "cubic-kernel"
    if outputs % _CHANNEL_MULTIPLE and inputs % _CHANNEL_MULTIPLE:
        return "channel-multiple"
    return None if is_first or max(outputs, inputs) >= _FULL_CHANNELS else "sixteen-channels"
