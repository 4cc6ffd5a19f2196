"""`edgeact train`: train a registry model on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeact.cli.data_options import DATA_HELP
from edgeact.cli.loading import ClipSize, Fps, Resize, Width
from edgeact.cli.numbers import parse_size
from edgeact.cli.option_groups import with_option_groups
from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.panels import DATA, MODEL, OUTPUT, TRAINING
from edgeact.cli.steps import STARTING, callbacks_of, steps

__all__ = ["command"]


@with_option_groups
def command(
    *,
    model: Annotated[
        str, typer.Argument(help="Registry model, e.g. msf-r3d-fsam.", metavar="MODEL", rich_help_panel=MODEL)
    ],
    data: Annotated[str, typer.Option("--data", help=DATA_HELP, rich_help_panel=DATA)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Weights file to write (.safetensors).", rich_help_panel=OUTPUT)
    ],
    clip_size: ClipSize,
    init: Annotated[
        Path | None, typer.Option(help="Weights file to start from; default: random weights.", rich_help_panel=MODEL)
    ] = None,
    width: Width = None,
    fps: Fps = None,
    resize: Resize = None,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip",
            help="Mirror clips at random; wrong for classes that differ in left and right.",
            rich_help_panel=DATA,
        ),
    ] = False,
    single_frame: Annotated[
        bool,
        typer.Option(
            "--single-frame", help="Train a baseline that sees one frame of a clip, repeated.", rich_help_panel=DATA
        ),
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Training epochs.", rich_help_panel=TRAINING)] = 20,
    batch: Annotated[int, typer.Option(min=1, help="Clips per training step.", rich_help_panel=TRAINING)] = 16,
    lr: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=TRAINING)] = 2e-3,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Quantization-aware training from --init; take few epochs and a low --lr.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed of weights, sampling and augmentation.", rich_help_panel=TRAINING)
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Train a model; the same command resumes an interrupted training after the last finished epoch."""

    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.train.plan import EpochResult, TrainPlan
        from edgeact.export.train.train import TrainRequest, train

        def on_event(event: object) -> None:
            if isinstance(event, EpochResult):
                top1 = "-" if event.validation_top1 is None else f"{event.validation_top1:.1%}"
                note(f"epoch {event.epoch + 1}/{epochs}: loss {event.loss:.3f}, validation top-1 {top1}")

        plan = TrainPlan(
            epochs=epochs,
            batch_size=batch,
            learning_rate=lr,
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
            clip_frames=clip_size.clip_frames,
            size=clip_size.size,
            resize=parse_size(resize) if resize is not None else None,
            fps=fps,
            init=init,
            int8=int8,
        )
        card = train(request, callbacks_of(shown, on_event))
    if json:
        emit_json(card)
        return
    note(f"wrote {out}")
    if card.provenance["skipped_videos"] != "none":
        note(f"left out: {card.provenance['skipped_videos']}")
    show(f"{card.model}, width {card.width}: validation top-1 {card.provenance['validation_top1']}")
