"""INT8 sensitivity by layer as text: names, table cells and sentences."""

from __future__ import annotations

import math

from edgeact.records import LayerSensitivity, Sensitivity
from edgeact.report.formatting import percent, snr_text

__all__ = ["LAYER_HEADS", "layer_cells", "layer_name", "summarize_sensitivity", "worst_first"]

LAYER_HEADS = ("layer", "MMACs", "SNR alone", "same top-1 alone", "mixed precision")


def worst_first(sensitivity: Sensitivity) -> list[LayerSensitivity]:
    """Sort the layers by the noise that each causes alone, most first."""
    return sorted(sensitivity.layers, key=lambda layer: math.inf if layer.snr_db is None else layer.snr_db)


def layer_name(layer: LayerSensitivity) -> str:
    """Return the layer's module if its weight has the name of the state dict, else the name of its graph node."""
    module = layer.weight.removesuffix(".weight")
    return module if module and "/" not in module else layer.layer


def summarize_sensitivity(sensitivity: Sensitivity) -> tuple[str, ...]:
    """Say what was measured, and what mixed precision gains."""
    all_int8 = (
        f"One layer after the other in INT8, all others in float, on {sensitivity.clips} calibration clips: the signal "
        f"to noise ratio at the output. With all {len(sensitivity.layers)} layers in INT8 it is "
        f"{snr_text(sensitivity.snr_db)}, and the top-1 class is the same on {percent(sensitivity.top1_agreement)} % "
        "of the clips."
    )
    if sensitivity.mixed_top1_agreement is None:
        return (all_int8,)
    count = sum(bool(layer.float_reason) for layer in sensitivity.layers)
    mixed = (
        f"With {count} layers kept in float it is {snr_text(sensitivity.mixed_snr_db)}, and the class is the same on "
        f"{percent(sensitivity.mixed_top1_agreement)} %."
    )
    return (all_int8, mixed)


def layer_cells(layer: LayerSensitivity) -> tuple[str, ...]:
    """Return the cells of a layer's table row, see LAYER_HEADS."""
    return (
        layer_name(layer),
        f"{layer.macs / 1e6:.2f}",
        snr_text(layer.snr_db),
        f"{percent(layer.top1_agreement)} %",
        "float" if layer.float_reason else "INT8",
    )
