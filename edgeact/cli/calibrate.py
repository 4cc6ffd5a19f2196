"""`edgeact calibrate`: the ranges INT8 would represent a model's activations in, without quantizing it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeact.cli.loading import (
    ChannelOrder,
    ClipFrames,
    Fps,
    Labels,
    Mean,
    ModelOptions,
    RandomWeights,
    Resize,
    Size,
    Std,
    Weights,
    Width,
)
from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.steps import STARTING, callbacks_of, steps
from edgeact.storage import write_text

if TYPE_CHECKING:
    from edgeact.calibration.ranges import TensorRange
    from edgeact.export.build.calibrate import CalibrationRecord

__all__ = ["MethodChoice", "command"]


class MethodChoice(str, Enum):
    """How ranges are taken from the values seen: the names of `METHODS`."""

    minmax = "minmax"
    percentile = "percentile"
    entropy = "entropy"
    mse = "mse"


class Sorting(str, Enum):
    """What `--sort` takes."""

    layer = "layer"
    clipped = "clipped"
    moved = "moved"


def command(
    model: Annotated[
        str | None, typer.Argument(help="Registry model or package.module:factory; default: the shipped model.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data with the model's clips; default: stick-actions, rendered here.")
    ] = None,
    method: Annotated[MethodChoice, typer.Option(help="How a range is taken from the values.")] = MethodChoice.minmax,
    clips: Annotated[int, typer.Option(min=1, help="Clips to calibrate on.")] = 64,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the record here (JSON).")] = None,
    sort: Annotated[Sorting, typer.Option(help="By the graph's order, by what is clipped, or by what still moved.")] = (
        Sorting.layer
    ),
    weights: Weights = None,
    random_weights: RandomWeights = False,
    labels: Labels = None,
    width: Width = None,
    clip_frames: ClipFrames = None,
    size: Size = None,
    fps: Fps = None,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    channel_order: ChannelOrder = None,
    accept_poor_calibration: Annotated[
        bool, typer.Option("--accept-poor-calibration", help="Go on with too few or random clips.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling and random weights.")] = 0,
    json: JsonOption = False,
) -> None:
    """Show the range, the step and the share of values clipped of every activation, and whether they have settled.

    An export of the same model with the same clips finds these ranges in the cache.
    """
    loading = ModelOptions(
        weights, labels, width, clip_frames, size, fps, resize, mean, std, channel_order, random_weights, seed
    )
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.build.calibrate import calibrate
        from edgeact.export.build.data import DataPlan

        plan = DataPlan(data, clips, accept_poor=accept_poor_calibration, seed=seed, method=method.value)
        record = calibrate(model, loading.request(), plan, callbacks_of(shown))
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
    found, tensors = record.provenance, record.ranges.tensors
    source = "random clips" if found.synthetic else f"clips of {found.classes} classes and {found.groups} groups"
    motion = f"motion {min(record.motion):.2g} to {max(record.motion):.2g}"
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for head in ("layer", "tensor"):
        table.add_column(head, no_wrap=True)
    for head in ("lowest", "highest", "limit", "step", "clipped", "moved", "settled"):
        table.add_column(head, justify="right", no_wrap=True)
    for name in sorted(tensors, key=lambda name: _rank(tensors[name], sort)):
        tensor = tensors[name]
        table.add_row(escape(record.modules.get(tensor.layer, tensor.layer)), escape(name), *_cells(tensor))
    on = f"{found.clips} {source}, {found.dataset} {found.split}, {motion}"
    lines = [
        f"{record.model}: {len(tensors)} activations on {on}; {record.ranges.method} ranges",
        "clipped: share of the values beyond the limit; moved: by which the second half of the clips changed the limit",
    ]
    if not record.unsettled:
        lines.append(record.ranges.summary)
    return Group(escape(lines[0]), table, *map(escape, lines[1:]))


def _rank(tensor: TensorRange, sort: Sorting) -> float:
    """Sorting is stable: what is alike stays in the graph's order."""
    return {Sorting.layer: 0.0, Sorting.clipped: -tensor.clipped, Sorting.moved: -tensor.last_change}[sort]


def _cells(tensor: TensorRange) -> tuple[str, ...]:
    return (
        *(f"{value:.4g}" for value in (tensor.low, tensor.high, tensor.limit, tensor.scale)),
        f"{tensor.clipped:.3%}" if tensor.clipped else "-",
        f"{tensor.last_change:.1%}",
        "no" if tensor.settled_after is None else f"{tensor.settled_after} clips",
    )
