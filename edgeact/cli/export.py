"""`edgeact export`: a trained model in, a checked and measured bundle out."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeact.cli.calibrate import MethodChoice
from edgeact.cli.explicit_options import given
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
from edgeact.cli.pruning import (
    DistillFeatures,
    DistillTemperature,
    Epochs,
    Finetune,
    Importance,
    ImportanceChoice,
    LearningRate,
    Prune,
    PruneLayers,
    PruneMultiple,
    PruneOptions,
    PruneScope,
    PruneSteps,
    ScopeChoice,
    show_plan,
)
from edgeact.cli.steps import STARTING, callbacks_of, steps
from edgeact.cli.trial import bundle_of_trial
from edgeact.devices import load_profile

if TYPE_CHECKING:
    from edgeact.bundle import Bundle

__all__ = ["PrecisionChoice", "command"]


class PrecisionChoice(str, Enum):
    """What `--precision` takes."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    mixed = "mixed"
    int8 = "int8"


def command(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(help="Registry model or package.module:factory; default: the shipped model.")
    ] = None,
    target: Annotated[str, typer.Option(help="Board, or jetson, desktop, cpu; see 'edgeact targets'.")] = "cpu",
    precision: Annotated[PrecisionChoice, typer.Option(help="auto keeps what is measured to win.")] = (
        PrecisionChoice.auto
    ),
    data: Annotated[
        str | None, typer.Option(help="Data to calibrate and check on, e.g. 'folder:/clips'; see docs/data.md.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: MODEL-TARGET.edgeact here.")] = None,
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
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Record the damage of INT8 by layer, whatever comes of it.")
    ] = False,
    max_drop: Annotated[float, typer.Option(min=0.0, help="Points of top-1 an artifact may lose.")] = 1.0,
    clips: Annotated[int, typer.Option(min=1, help="Clips to calibrate on.")] = 64,
    videos: Annotated[int, typer.Option(min=1, help="Videos to measure accuracy on.")] = 240,
    method: Annotated[
        MethodChoice, typer.Option(help="How INT8 ranges are taken; see 'edgeact calibrate'.")
    ] = MethodChoice.minmax,
    accept_poor_calibration: Annotated[
        bool, typer.Option("--accept-poor-calibration", help="Go on with too few or random clips.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to measure with.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling, training and random weights.")] = 0,
    prune: Prune = None,
    prune_layer: PruneLayers = None,
    importance: Importance = ImportanceChoice.l2,
    prune_scope: PruneScope = ScopeChoice.layer,
    prune_steps: PruneSteps = 1,
    prune_multiple: PruneMultiple = None,
    finetune: Finetune = None,
    epochs: Epochs = 3,
    lr: LearningRate = 1e-3,
    distill_temperature: DistillTemperature = 4.0,
    distill_features: DistillFeatures = 0.0,
    trial: Annotated[
        str | None, typer.Option(help="FILE.search.json:N: trial N of 'edgeact search', which decides all but --out.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Convert a model for a target, check every artifact against PyTorch, measure, and write one bundle.

    With --prune the model loses channels first; --finetune trains what is left. The plan is shown before that.
    """
    if trial is not None:
        _finish(bundle_of_trial(context, trial, out), json)
        return
    pruning = PruneOptions(
        ratio=prune,
        layers=prune_layer,
        importance=importance,
        scope=prune_scope,
        steps=prune_steps,
        multiple=prune_multiple,
        finetune=finetune,
        epochs=epochs,
        learning_rate=lr,
        temperature=distill_temperature,
        features=distill_features,
        seed=seed,
    )
    loading = ModelOptions(
        weights, labels, width, clip_frames, size, fps, resize, mean, std, channel_order, random_weights, seed
    )
    with steps() as shown:
        shown.begin(STARTING)
        load_profile(target)  # a name mistyped is told before the slow imports
        from edgeact.export.build.data import DataPlan
        from edgeact.export.build.export import ExportRequest, export

        name = (model or "msf-r3d-fsam").rpartition(":")[2]
        request = ExportRequest(
            target=target,
            out=out or Path(f"{name}-{target}.edgeact"),
            source=model,
            load=loading.request(),
            precision=precision.value,
            data=DataPlan(data, clips, videos, accept_poor_calibration, seed, method.value),
            sensitivity=sensitivity,
            max_drop_points=max_drop,
            threads=threads,
            compression=pruning.compression(given(context)),
        )
        bundle = export(request, callbacks_of(shown, show_plan))
    _finish(bundle, json)


def _finish(bundle: Bundle, json: bool) -> None:
    if json:
        document: dict[str, Any] = {
            "bundle": str(bundle.path),
            "digest": bundle.digest,
            "preferred": list(bundle.manifest.preferred),
            "decisions": list(bundle.manifest.decisions),
            "measurements": bundle.measurements.model_dump(mode="json") if bundle.measurements else None,
        }
        emit_json(document)
        return
    from edgeact.cli.layers import layers_shown
    from edgeact.cli.results_table import rows_table

    if bundle.measurements:
        show(rows_table(bundle.measurements))
    show(layers_shown(bundle.manifest, bundle.measurements))
    for decision in bundle.manifest.decisions:
        note(f"- {decision}")
    show(f"wrote {bundle.path} ({bundle.path.stat().st_size / 1e6:.1f} MB)")
    if load_profile(bundle.manifest.target).family != "cpu":
        note(f"next: copy {bundle.path} to the device, install edgeact there, then: edgeact bench {bundle.path.name}")
