"""Empirical bias correction: subtract the mean shift that INT8 causes in a layer's output from its bias.

After M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section
4.2: quantized weights shift the mean of every output channel, and later layers process the shift as a signal. It costs
nothing at run time. Layers are corrected in order, each after all layers before it: a single pass would subtract the
same shift again in every layer that it propagates through.

A shift estimated on few clips depends on the choice of clips. The correction of a channel is shrunk by
1 - variance / (clips x mean^2), at least 0, with the variance over the clips (W. James and C. Stein, 1961). The caller
measures the gain on other clips; some networks gain nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeact.export.graph.edit import add_constant, remove_unused, set_inputs
from edgeact.export.graph.values import name_of
from edgeact.export.quantize.toggle_graph import ToggleGraph
from edgeact.progress import OnProgress

__all__ = ["corrected_biases", "with_biases"]

Array = npt.NDArray[np.float32]


def corrected_biases(
    graph: ToggleGraph, clips: Sequence[Array], enabled: Collection[str], on_progress: OnProgress | None = None
) -> dict[str, Array]:
    """Return corrected biases by layer name, for the layers of `enabled` that have a bias input.

    `graph` must have been built with means. A single clip has no variance, so nothing is shrunk. On `clips` no
    channel's mean error grows by its correction; a layer without error keeps its bias bit for bit.
    """
    biases, corrected = dict(graph.biases), {}
    floats, quantized = list(clips), list(clips)
    for index, layers in enumerate(graph.layers_by_segment()):
        results = [graph.advance(index, state, ()) for state in floats]
        floats = [result[0] for result in results]
        for position, layer in enumerate(layers, start=1):
            if layer.name in enabled and layer.bias:
                means = [graph.advance(index, state, enabled, biases)[position] for state in quantized]
                shifts = np.stack([result[position] for result in results]).astype(np.float64) - np.stack(means)
                biases[layer.bias] = (biases[layer.bias] + _shrunk_mean(shifts)).astype(np.float32)
                corrected[layer.name] = biases[layer.bias]
        quantized = [graph.advance(index, state, enabled, biases)[0] for state in quantized]
        if on_progress:
            on_progress(index + 1, len(graph.layers_by_segment()))
    return corrected


def with_biases(model: ir.Model, biases: Mapping[str, Array]) -> ir.Model:
    """Return a copy of `model` with the given biases, float32 `(channels,)` by layer name."""
    changed = model.clone()
    for node in changed.graph:
        if (name := name_of(node)) in biases:
            bias = add_constant(changed.graph, f"{name}/corrected_bias", biases[name])
            set_inputs(node, [*node.inputs[:2], bias])
    remove_unused(changed)
    return changed


def _shrunk_mean(shifts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the shrunk mean of shifts `(clips, channels)` by channel."""
    mean: npt.NDArray[np.float64] = shifts.mean(axis=0)
    if len(shifts) < 2:
        return mean
    variance = shifts.var(axis=0, ddof=1) / len(shifts)
    factor = 1 - np.divide(variance, mean**2, out=np.ones_like(mean), where=mean != 0)
    shrunk: npt.NDArray[np.float64] = mean * np.maximum(factor, 0.0)
    return shrunk
