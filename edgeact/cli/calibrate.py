"""`edgeact calibrate`: show the INT8 ranges of a model's activations without quantizing the model."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeact.cli.data_options import DataOptions, Method, MethodChoice
from edgeact.cli.loading import ClipOptions, ClipSize, ModelOptions, RandomWeights, load_request
from edgeact.cli.option_groups import with_option_groups
from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.panels import OUTPUT
from edgeact.cli.steps import STARTING, callbacks_of, steps
from edgeact.storage import write_text

if TYPE_CHECKING:
    from edgeact.calibration.ranges import TensorRange
    from edgeact.export.build.calibrate import CalibrationRecord

__all__ = ["command"]


class Sorting(str, Enum):
    """Values of `--sort`."""

    layer = "layer"
    clipped = "clipped"
    moved = "moved"


@with_option_groups
def command(
    *,
    model: ModelOptions,
    size: ClipSize,
    clip: ClipOptions,
    data: DataOptions,
    random_weights: RandomWeights = False,
    method: Method = MethodChoice.minmax,
    sort: Annotated[
        Sorting,
        typer.Option(
            help="Sort activations by their order in the graph, by the share of clipped values, or by the change of "
            "the limit in the second half of the clips.",
            rich_help_panel=OUTPUT,
        ),
    ] = Sorting.layer,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write the record to (JSON).", rich_help_panel=OUTPUT)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show range, quantization scale and clipped share of every activation, and whether the ranges have settled.

    An export of the same model with the same clips reads these ranges from the cache.
    """
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.build import DataPlan, Recipe
        from edgeact.export.build.calibrate import calibrate

        plan = DataPlan(
            data.data, data.clips, accept_poor=data.accept_poor_calibration, seed=data.seed, method=method.value
        )
        loading = load_request(model, size, clip, random_weights, data.seed)
        recipe = Recipe("cpu", source=model.model, load=loading, data=plan, precision="int8")
        record = calibrate(recipe, callbacks_of(shown))
    if out:
        write_text(out, record.model_dump_json(indent=1) + "\n")
    if json:
        emit_json(record)
    else:
        show(_shown(record, sort))
    for reason, count in record.left_out.items():
        note(f"{count} videos left out of calibration: {reason}")
    if record.unsettled:
        note(escape(record.ranges.summary))


def _shown(record: CalibrationRecord, sort: Sorting) -> RenderableType:
    origin, tensors = record.provenance, record.ranges.tensors
    source = "random clips" if origin.synthetic else f"clips of {origin.classes} classes and {origin.groups} groups"
    motion = f"motion {min(record.motion):.2g} to {max(record.motion):.2g}"
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for head in ("layer", "tensor"):
        table.add_column(head, no_wrap=True)
    for head in ("lowest", "highest", "limit", "scale", "clipped", "moved", "settled"):
        table.add_column(head, justify="right", no_wrap=True)
    for name in sorted(tensors, key=lambda name: _rank(tensors[name], sort)):
        tensor = tensors[name]
        table.add_row(escape(record.modules.get(tensor.layer, tensor.layer)), escape(name), *_cells(tensor))
    clips = f"{origin.clips} {source}, {origin.dataset} {origin.split}, {motion}"
    lines = [
        f"{record.model}: {len(tensors)} activations on {clips}; {record.ranges.method} ranges",
        "clipped: share of the values beyond the limit; moved: change of the limit by the second half of the clips",
    ]
    if not record.unsettled:
        lines.append(record.ranges.summary)
    return Group(escape(lines[0]), table, *map(escape, lines[1:]))


def _rank(tensor: TensorRange, sort: Sorting) -> float:
    """Return the sort key; equal keys keep the order of the graph, because sorting is stable."""
    return {Sorting.layer: 0.0, Sorting.clipped: -tensor.clipped, Sorting.moved: -tensor.last_change}[sort]


def _cells(tensor: TensorRange) -> tuple[str, ...]:
    return (
        *(f"{value:.4g}" for value in (tensor.low, tensor.high, tensor.limit, tensor.scale)),
        f"{tensor.clipped:.3%}" if tensor.clipped else "-",
        f"{tensor.last_change:.1%}",
        "no" if tensor.settled_after is None else f"{tensor.settled_after} clips",
    )
