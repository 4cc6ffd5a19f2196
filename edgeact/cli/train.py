"""`edgeact train`: fit a registry model on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeact.cli.loading import ClipFrames, Fps, Resize, Size, Width
from edgeact.cli.numbers import parse_size
from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.steps import STARTING, steps

if TYPE_CHECKING:
    from edgeact.export.train.loop import EpochResult

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Argument(help="Registry model, e.g. msf-r3d-fsam.")],
    data: Annotated[
        str, typer.Option("--data", help="Data set, e.g. 'ucf101:/data/ucf101?split=1'; see docs/data.md.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights to write (.safetensors).")],
    epochs: Annotated[int, typer.Option(min=1)] = 20,
    batch: Annotated[int, typer.Option(min=1, help="Clips a step.")] = 16,
    learning_rate: Annotated[float, typer.Option("--lr")] = 2e-3,
    width: Width = None,
    clip_frames: ClipFrames = None,
    size: Size = None,
    resize: Resize = None,
    fps: Fps = None,
    init: Annotated[Path | None, typer.Option(help="Start from these weights.")] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Round as INT8 does while training, from --init; a few epochs at a low --lr.")
    ] = False,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror at random; wrong where left and right matter.")] = False,
    single_frame: Annotated[bool, typer.Option("--single-frame", help="Baseline: one frame repeated.")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: JsonOption = False,
) -> None:
    """Train a model; interrupted, the same command goes on after the last finished epoch."""

    def on_epoch(result: EpochResult) -> None:
        top1 = "-" if result.validation_top1 is None else f"{result.validation_top1:.1%}"
        note(f"epoch {result.epoch + 1}/{epochs}: loss {result.loss:.3f}, validation top-1 {top1}")

    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.train.loop import Progress, TrainPlan
        from edgeact.export.train.train import TrainRequest, train

        plan = TrainPlan(
            epochs=epochs,
            batch_size=batch,
            learning_rate=learning_rate,
            seed=seed,
            flip=flip,
            frames="single" if single_frame else "clip",
        )
        request = TrainRequest(
            model,
            data,
            out,
            plan,
            width=width,
            clip_frames=clip_frames,
            size=size,
            resize=parse_size(resize) if resize is not None else None,
            fps=fps,
            init=init,
            int8=int8,
        )
        card = train(request, Progress(shown.advance, on_epoch, note))
    if json:
        emit_json(card)
        return
    note(f"wrote {out}")
    if card.provenance["skipped_videos"] != "none":
        note(f"left out: {card.provenance['skipped_videos']}")
    show(f"{card.model}, width {card.width}: validation top-1 {card.provenance['validation_top1']}")
