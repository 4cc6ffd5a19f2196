"""Which convolutions must stay in float when a graph is quantized to INT8.

The rule is the one of NVIDIA's Model Optimizer (`modelopt/onnx/quantization/graph_utils.py`,
`find_nodes_from_convs_to_exclude`, INT8 mode), restated here. With OC output channels and IC input channels per group:

* a weight that is not constant stays in float;
* OC >= 16 and IC >= 16 quantizes;
* fewer channels quantize only
  - in a plain convolution with a cubic kernel, where OC or IC is a multiple of 8, and which reads the network's input
    or has at least 16 channels on one side;
  - in a grouped convolution with every kernel side >= 3 and OC a multiple of 8.
"""

from __future__ import annotations

__all__ = ["int8_exclusion_reason"]

_FULL_CHANNELS = 16
_CHANNEL_MULTIPLE = 8
_GROUPED_KERNEL = 3


def int8_exclusion_reason(weight_shape: tuple[int, ...] | None, group: int, is_first: bool) -> str | None:
    """Why a convolution must not be quantized to INT8, or None where it may be.

    `weight_shape` is `(OC, IC per group, *kernel)`, None for a weight that is computed; `is_first` tells that the
    convolution reads the network's input.
    """
    if weight_shape is None:
        return "its weight is computed, not a constant"
    outputs, inputs, *kernel = weight_shape
    if min(outputs, inputs) >= _FULL_CHANNELS:
        return None
    size = f"{inputs} input channels per group and {outputs} output channels, kernel {'x'.join(map(str, kernel))}"
    if group > 1:
        if outputs % _CHANNEL_MULTIPLE == 0 and min(kernel) >= _GROUPED_KERNEL:
            return None
        return f"{size}: INT8 kernels for few grouped channels want sides >= 3 and output channels in eights"
    if len(set(kernel)) > 1:
        return f"{size}: INT8 kernels for few channels want a cubic kernel"
    if outputs % _CHANNEL_MULTIPLE and inputs % _CHANNEL_MULTIPLE:
        return f"{size}: INT8 kernels want input or output channels in eights"
    if not is_first and max(outputs, inputs) < _FULL_CHANNELS:
        return f"{size}: INT8 kernels want 16 channels on one side"
    return None
