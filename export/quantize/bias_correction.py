"""Empirical bias correction: what INT8 shifts a layer's output by on average is taken off its bias, free at run time.

After M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section
4.2: rounding weights shifts the mean of every output channel, and the next layers take the shift for a signal. Layers
are corrected in order, each with those before it corrected already: all in one pass would take off the same shift once
for every layer that passes it on.

A shift estimated on few clips is partly those clips' own. Each channel's correction is shrunk by what its scatter from
clip to clip says of that, 1 - variance / (clips x mean^2) and not below 0 (W. James and C. Stein, 1961): what is not
surely a shift stays. Whether it pays is for the caller to measure on other clips; there are networks where it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeact.export.graph.edit import add_constant, remove_unused, set_inputs
from edgeact.export.graph.values import name_of
from edgeact.export.quantize.toggle_graph import SwitchedGraph
from edgeact.progress import OnProgress

__all__ = ["corrected_biases", "with_biases"]

Array = npt.NDArray[np.float32]


def corrected_biases(
    graph: SwitchedGraph, clips: Sequence[Array], on: Collection[str], on_progress: OnProgress | None = None
) -> dict[str, Array]:
    """New biases, by the layer's name, of the layers of `on` that have a place for one.

    `graph` was made with means; one clip shows no scatter, and is believed. On `clips` no channel's mean error gets
    larger by its own correction; a layer without error keeps its bias bit for bit.
    """
    biases, corrected = dict(graph.biases), {}
    floats, rounded = list(clips), list(clips)
    for index, layers in enumerate(graph.in_segments()):
        results = [graph.advance(index, state, ()) for state in floats]
        floats = [found[0] for found in results]
        for place, layer in enumerate(layers, start=1):
            if layer.name in on and layer.bias:
                got = [graph.advance(index, state, on, biases)[place] for state in rounded]
                shifts = np.stack([found[place] for found in results]).astype(np.float64) - np.stack(got)
                biases[layer.bias] = (biases[layer.bias] + _shrunk_mean(shifts)).astype(np.float32)
                corrected[layer.name] = biases[layer.bias]
        rounded = [graph.advance(index, state, on, biases)[0] for state in rounded]
        if on_progress:
            on_progress(index + 1, len(graph.in_segments()))
    return corrected


def with_biases(model: ir.Model, biases: Mapping[str, Array]) -> ir.Model:
    """A copy of `model` whose layers have the given biases, float32 `(channels,)` by the layer's name."""
    changed = model.clone()
    for node in changed.graph:
        if (name := name_of(node)) in biases:
            bias = add_constant(changed.graph, f"{name}/corrected_bias", biases[name])
            set_inputs(node, [*node.inputs[:2], bias])
    remove_unused(changed)
    return changed


def _shrunk_mean(shifts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of `(clips, channels)`, by channel."""
    mean: npt.NDArray[np.float64] = shifts.mean(axis=0)
    if len(shifts) < 2:
        return mean
    own = shifts.var(axis=0, ddof=1) / len(shifts)
    kept = 1 - np.divide(own, mean**2, out=np.ones_like(mean), where=mean != 0)
    shrunk: npt.NDArray[np.float64] = mean * np.maximum(kept, 0.0)
    return shrunk
