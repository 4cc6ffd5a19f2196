"""`edgeact export`: a trained model in, a checked and measured bundle out."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeact.cli.build_options import BuildOptions
from edgeact.cli.data_options import DataOptions, Method, MethodChoice, Videos
from edgeact.cli.explicit_options import typed_options
from edgeact.cli.loading import ClipOptions, ClipSize, ModelOptions, RandomWeights, load_request
from edgeact.cli.option_groups import with_option_groups
from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.panels import MODEL, OUTPUT, PRECISION
from edgeact.cli.pruning import PruneOptions, show_plan
from edgeact.cli.replay import bundle_of_recipe, bundle_of_trial
from edgeact.cli.steps import STARTING, callbacks_of, steps
from edgeact.devices import load_profile

if TYPE_CHECKING:
    from edgeact.bundle import Bundle

__all__ = ["PrecisionChoice", "command"]


class PrecisionChoice(str, Enum):
    """Values of `--precision`."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    mixed = "mixed"
    int8 = "int8"


@with_option_groups
def command(
    context: typer.Context,
    *,
    model: ModelOptions,
    random_weights: RandomWeights = False,
    trial: Annotated[
        str | None,
        typer.Option(
            metavar="FILE:N",
            help="Export trial N of the record FILE that 'edgeact search' wrote; accepts no other option but --out.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Recipe to build again: JSON, or the bundle that was built by it; accepts no other option but --out.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    size: ClipSize,
    clip: ClipOptions,
    data: DataOptions,
    videos: Videos = 240,
    precision: Annotated[
        PrecisionChoice,
        typer.Option(
            help="Precision of the artifacts; auto keeps those that are measured as faster and accurate, mixed is INT8 "
            "with layers kept in float as accuracy requires.",
            rich_help_panel=PRECISION,
        ),
    ] = PrecisionChoice.auto,
    method: Method = MethodChoice.minmax,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity", help="Always record the sensitivity of every layer to INT8.", rich_help_panel=PRECISION
        ),
    ] = False,
    pruning: PruneOptions,
    build: BuildOptions,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Bundle to write; default: MODEL-TARGET.edgeact.", rich_help_panel=OUTPUT),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Convert a model for a target, check every artifact against PyTorch, measure, and write one bundle.

    With --prune the model loses channels first, by a plan that is shown; --finetune trains the pruned model.
    """
    if trial is not None:
        _finish(bundle_of_trial(context, trial, out), json)
        return
    if recipe is not None:
        _finish(bundle_of_recipe(context, recipe, out), json)
        return
    with steps() as shown:
        shown.begin(STARTING)
        load_profile(build.target)  # refuses a mistyped name before the slow imports
        from edgeact.export.build import DataPlan, Recipe
        from edgeact.export.build import build as run_build
        from edgeact.export.models.loading import DEFAULT_MODEL

        name = (model.model or DEFAULT_MODEL).rpartition(":")[2]
        wanted = Recipe(
            target=build.target,
            source=model.model,
            load=load_request(model, size, clip, random_weights, data.seed),
            precision=precision.value,
            data=DataPlan(data.data, data.clips, videos, data.accept_poor_calibration, data.seed, method.value),
            sensitivity=sensitivity,
            max_drop_points=build.max_drop,
            threads=build.threads,
            compression=pruning.compression(typed_options(context), data.seed),
        )
        file = out or Path(f"{name}-{build.target}.edgeact")
        bundle = run_build(wanted, callbacks=callbacks_of(shown, show_plan), out=file).bundle
    _finish(bundle, json)


def _finish(bundle: Bundle, json: bool) -> None:
    if json:
        emit_json(
            {
                "bundle": str(bundle.path),
                "digest": bundle.digest,
                "preferred": list(bundle.manifest.preferred),
                "decisions": list(bundle.manifest.decisions),
                "measurements": bundle.measurements.model_dump(mode="json") if bundle.measurements else None,
            }
        )
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
