"""Which layers INT8 artifacts leave in float and why, and which INT8 damages most, as `export` ends with."""

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
_NAMED = 4  # layers of one reason; the bundle's report has them all


def layers_shown(manifest: Manifest, measured: Measurements | None) -> RenderableType:
    """The layers in float and their reasons, alike ones once, then the damage in every graph looked into."""
    looked_into = measured.sensitivity if measured else ()
    known = {one.layer: one for sensitivity in looked_into for one in sensitivity.layers}
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for artifact in manifest.artifacts:
        alike.setdefault(tuple(artifact.float_layers.items()), []).append(artifact.name)
    lines = [line for kept, names in alike.items() for line in _lines(names, dict(kept), known)]
    return Group(*lines, *(part for sensitivity in looked_into for part in _damage(sensitivity)))


def _lines(artifacts: list[str], float_layers: dict[str, str], known: dict[str, LayerSensitivity]) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for layer, reason in float_layers.items():
        name = layer_name(known[layer]) if layer in known else layer
        reasons.setdefault(reason, []).append(name)
    if reasons:
        yield escape(f"{len(float_layers)} layers stay in float in {', '.join(artifacts)}:")
    for reason, names in reasons.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield escape(f"  {', '.join(names[:_NAMED])}{more}: {reason}")


def _damage(sensitivity: Sensitivity) -> Iterator[RenderableType]:
    worst = worst_first(sensitivity)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for place, head in enumerate(LAYER_HEADS):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    for layer in worst[:_WORST]:
        table.add_row(*map(escape, layer_cells(layer)))
    yield escape(f"INT8 damage by layer, {sensitivity.artifact}: {' '.join(summarize_sensitivity(sensitivity))}")
    yield table
    if len(worst) > _WORST:
        yield f"the other {len(worst) - _WORST} layers do less; 'edgeact report' shows all"
