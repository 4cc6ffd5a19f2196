"""Options that prune a model and fine-tune it before it is exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from edgeact.cli.output import aside
from edgeact.cli.panels import PRUNING
from edgeact.cli.pruning_plan import plan_table
from edgeact.errors import UsageError

if TYPE_CHECKING:
    from edgeact.export.build.compression import Compression

__all__ = ["ImportanceChoice", "PruneOptions", "ScopeChoice", "show_plan"]


class ImportanceChoice(str, Enum):
    """Values of `--importance`."""

    l2 = "l2"
    taylor = "taylor"
    bn_scale = "bn-scale"


class ScopeChoice(str, Enum):
    """Values of `--prune-scope`."""

    layer = "layer"
    globally = "global"


_ONLY_WITH_PRUNING = {
    *("importance", "prune_scope", "prune_steps", "prune_multiple"),
    *("epochs", "lr", "distill_temperature", "distill_features"),
}


@dataclass
class PruneOptions:
    """What is pruned, and how the pruned model is fine-tuned."""

    prune: Annotated[
        float | None,
        typer.Option(
            "--prune", metavar="RATIO", help="Share of the channels to prune, e.g. 0.5.", rich_help_panel=PRUNING
        ),
    ] = None
    prune_layer: Annotated[
        list[str] | None,
        typer.Option(
            "--prune-layer",
            metavar="PATTERN=RATIO",
            help="Ratio of the layers whose name matches, e.g. 'stages.3.*=0.7'; repeatable, the first match wins.",
            rich_help_panel=PRUNING,
        ),
    ] = None
    importance: Annotated[
        ImportanceChoice,
        typer.Option(help="Importance criterion; the least important channels are pruned.", rich_help_panel=PRUNING),
    ] = ImportanceChoice.l2
    prune_scope: Annotated[
        ScopeChoice,
        typer.Option(
            help="Apply the ratio to every layer, or globally to all channels together.", rich_help_panel=PRUNING
        ),
    ] = ScopeChoice.layer
    prune_steps: Annotated[
        int, typer.Option(min=1, help="Number of pruning steps, each followed by fine-tuning.", rich_help_panel=PRUNING)
    ] = 1
    prune_multiple: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Multiple that channel counts are kept at; default: the target's.",
            rich_help_panel=PRUNING,
        ),
    ] = None
    finetune: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Data set to fine-tune the pruned model on, with the unpruned model as the teacher.",
            rich_help_panel=PRUNING,
        ),
    ] = None
    epochs: Annotated[
        int, typer.Option(min=1, help="Fine-tuning epochs per pruning step.", rich_help_panel=PRUNING)
    ] = 3
    lr: Annotated[float, typer.Option(help="Peak learning rate of fine-tuning.", rich_help_panel=PRUNING)] = 1e-3
    distill_temperature: Annotated[
        float,
        typer.Option(
            help="Distillation temperature, which softens the logits of teacher and student.", rich_help_panel=PRUNING
        ),
    ] = 4.0
    distill_features: Annotated[
        float,
        typer.Option(
            help="Weight of the attention-transfer loss on the last feature map; 0: off.", rich_help_panel=PRUNING
        ),
    ] = 0.0

    def compression(self, typed: Sequence[str], seed: int) -> Compression | None:
        """Return the exporter's pruning request, or None without pruning.

        `typed` are the names of the options on the command line, `seed` is the seed of fine-tuning. Raises UsageError
        if an option of pruning was typed and nothing is pruned, or if a ratio is malformed.
        """
        if self.prune is None and not self.prune_layer:
            _refuse_idle_options(typed)
            return None
        from edgeact.export.build.compression import Compression
        from edgeact.export.prune import PruneRequest
        from edgeact.export.train.distill import Distillation
        from edgeact.export.train.plan import TrainPlan

        return Compression(
            prune=PruneRequest(
                ratio=self.prune or 0.0,
                scope="global" if self.prune_scope is ScopeChoice.globally else "layer",
                ratios=dict(_layer_ratio(text) for text in self.prune_layer or ()),
                importance=self.importance.value,
            ),
            channel_multiple=self.prune_multiple,
            finetune=self.finetune,
            steps=self.prune_steps,
            train=TrainPlan(epochs=self.epochs, learning_rate=self.lr, seed=seed),
            distillation=Distillation(temperature=self.distill_temperature, feature_weight=self.distill_features),
        )


def _refuse_idle_options(typed: Sequence[str]) -> None:
    if "finetune" in typed:
        raise UsageError("--finetune trains a pruned model; give --prune RATIO, or use 'edgeact train --init'")
    if idle := [f"--{name.replace('_', '-')}" for name in typed if name in _ONLY_WITH_PRUNING]:
        raise UsageError(f"{', '.join(idle)}: nothing is pruned; give --prune RATIO, or leave the option out")


def _layer_ratio(text: str) -> tuple[str, float]:
    pattern, _, ratio = text.rpartition("=")
    malformed = UsageError(f"expected --prune-layer PATTERN=RATIO, e.g. 'stages.3.*=0.7', got '{text}'")
    if not pattern:
        raise malformed
    try:
        return pattern, float(ratio)
    except ValueError as error:
        raise malformed from error


def show_plan(event: object) -> None:
    """Print the pruning plan of a `PlanReady` event on standard error; ignore other events."""
    from edgeact.export.build.compress import PlanReady

    if isinstance(event, PlanReady):
        aside(plan_table(event.plan, event.latency))
