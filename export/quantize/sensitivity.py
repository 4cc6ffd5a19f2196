"""What INT8 does to a network layer by layer: each one rounded alone, the output compared with the float graph's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeact.calibration.parity import compare_logits
from edgeact.errors import CalibrationError
from edgeact.export.quantize.toggle_graph import SwitchedGraph
from edgeact.progress import OnProgress
from edgeact.records import LayerSensitivity, Parity, Sensitivity

__all__ = ["compare", "measure_sensitivity"]

Array = npt.NDArray[np.float32]


def measure_sensitivity(
    graph: SwitchedGraph, clips: Sequence[Array], artifact: str, on_progress: OnProgress | None = None
) -> Sensitivity:
    """The damage of every layer of `graph` alone, and of all of them together, on float32 clips of its input shape.

    A clip is run once in float; for every layer it goes on from the last cut before that layer, so all layers of a
    residual network take as long as a few whole runs each. `artifact` names what the INT8 graph is for.
    Raises CalibrationError where there is nothing to measure, InputError where an output is not finite.
    """
    if not clips or not graph.layers:
        missing = "no clip" if graph.layers else "no layer in INT8"
        raise CalibrationError(f"sensitivity needs clips and layers in INT8, got {missing}; see --clips")
    floats: list[Array] = []
    alone: dict[str, list[Array]] = {name: [] for name in graph.names}
    together: list[Array] = []
    for done, clip in enumerate(clips, start=1):
        states = graph.states(clip, ())
        floats.append(states[-1])
        together.append(graph.run(clip, graph.names))
        for layer in graph.layers:
            first = graph.first_segment(layer)
            alone[layer.name].append(graph.resume(first, states[first], {layer.name}))
        if on_progress:
            on_progress(done, len(clips))
    whole = compare(floats, together)
    found = {name: compare(floats, outputs) for name, outputs in alone.items()}
    return Sensitivity(
        artifact=artifact,
        clips=len(clips),
        snr_db=whole.snr_db,
        top1_agreement=whole.top1_agreement,
        layers=tuple(
            LayerSensitivity(
                layer=layer.name,
                weight=layer.weight,
                macs=layer.macs,
                snr_db=found[layer.name].snr_db,
                top1_agreement=found[layer.name].top1_agreement,
            )
            for layer in graph.layers
        ),
    )


def compare(reference: Sequence[Array], candidate: Sequence[Array]) -> Parity:
    """Agreement of logits `(1, classes)`, clip by clip; only the SNR of INT8's parity limits is applied."""
    return compare_logits(np.concatenate(reference), np.concatenate(candidate), "int8", trained=False)
