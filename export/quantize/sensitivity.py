"""Sensitivity of a network to INT8 by layer: each layer quantized alone, the logits compared with the float graph's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeact.calibration.parity import compare_logits
from edgeact.errors import CalibrationError
from edgeact.export.quantize.toggle_graph import ToggleGraph
from edgeact.progress import OnProgress
from edgeact.records import LayerSensitivity, Parity, Sensitivity

__all__ = ["compare", "measure_sensitivity"]

Array = npt.NDArray[np.float32]


def measure_sensitivity(
    graph: ToggleGraph, clips: Sequence[Array], artifact: str, on_progress: OnProgress | None = None
) -> Sensitivity:
    """Measure the error by each layer of `graph` alone and by all layers together, on float32 clips of its input shape.

    A clip runs in float once; for each layer it resumes at the last cut before the layer. `artifact` names the INT8
    artifact in the record.
    Raises CalibrationError without clips or layers in INT8, InputError if an output is not finite.
    """
    if not clips or not graph.layers:
        missing = "no clip" if graph.layers else "no layer in INT8"
        raise CalibrationError(
            f"sensitivity needs clips and layers in INT8, got {missing}; give calibration clips with --clips, and a "
            "model with layers that INT8 quantizes"
        )
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
    parities = {name: compare(floats, outputs) for name, outputs in alone.items()}
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
                snr_db=parities[layer.name].snr_db,
                top1_agreement=parities[layer.name].top1_agreement,
            )
            for layer in graph.layers
        ),
    )


def compare(reference: Sequence[Array], candidate: Sequence[Array]) -> Parity:
    """Compare logits `(1, classes)` clip by clip; of the parity limits of INT8 only the SNR applies."""
    return compare_logits(np.concatenate(reference), np.concatenate(candidate), "int8", trained=False)
