"""Show the layers that INT8 artifacts keep in float, with reasons, and the layers most sensitive to INT8."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeact.bundle.manifest import Manifest
from edgeact.records import LayerSensitivity, Measurements, Sensitivity
from edgeact.report.sensitivity import LAYER_HEADS, layer_cells, layer_name, summarize_sensitivity, worst_first

__all__ = ["layers_shown"]

_WORST = 10
_NAMED = 4  # layers of one reason; the report of the bundle lists all


def layers_shown(manifest: Manifest, measured: Measurements | None) -> RenderableType:
    """Return the layers kept in float by reason, one block for equal artifacts, then the sensitivity of every graph."""
    sensitivities = measured.sensitivity if measured else ()
    known = {layer.layer: layer for sensitivity in sensitivities for layer in sensitivity.layers}
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for artifact in manifest.artifacts:
        alike.setdefault(tuple(artifact.float_layers.items()), []).append(artifact.name)
    lines = [line for kept, names in alike.items() for line in _lines(names, dict(kept), known)]
    return Group(*lines, *(part for sensitivity in sensitivities for part in _sensitivity_table(sensitivity)))


def _lines(artifacts: list[str], float_layers: dict[str, str], known: dict[str, LayerSensitivity]) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for layer, reason in float_layers.items():
        name = layer_name(known[layer]) if layer in known else layer
        reasons.setdefault(reason, []).append(name)
    if reasons:
        yield escape(f"{len(float_layers)} layers kept in float in {', '.join(artifacts)}:")
    for reason, names in reasons.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield escape(f"  {', '.join(names[:_NAMED])}{more}: {reason}")


def _sensitivity_table(sensitivity: Sensitivity) -> Iterator[RenderableType]:
    worst = worst_first(sensitivity)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for place, head in enumerate(LAYER_HEADS):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    for layer in worst[:_WORST]:
        table.add_row(*map(escape, layer_cells(layer)))
    yield escape(
        f"sensitivity to INT8 by layer, {sensitivity.artifact}: {' '.join(summarize_sensitivity(sensitivity))}"
    )
    yield table
    if len(worst) > _WORST:
        yield f"{len(worst) - _WORST} less sensitive layers are not shown; 'edgeact report' shows all"
