"""Options that prune a model before it is exported, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from edgeact.cli.output import aside
from edgeact.errors import UsageError

if TYPE_CHECKING:
    from edgeact.export.build.compress import Compression

__all__ = [
    "DistillFeatures",
    "DistillTemperature",
    "Epochs",
    "Finetune",
    "Importance",
    "ImportanceChoice",
    "LearningRate",
    "Prune",
    "PruneLayers",
    "PruneMultiple",
    "PruneOptions",
    "PruneScope",
    "PruneSteps",
    "ScopeChoice",
    "show_plan",
]

_PANEL = "Pruning"


class ImportanceChoice(str, Enum):
    """What `--importance` takes."""

    l2 = "l2"
    taylor = "taylor"
    bn_scale = "bn-scale"


class ScopeChoice(str, Enum):
    """What `--prune-scope` takes."""

    layer = "layer"
    globally = "global"


Prune = Annotated[
    float | None,
    typer.Option("--prune", metavar="RATIO", help="Share of channels to take out, e.g. 0.5.", rich_help_panel=_PANEL),
]
PruneLayers = Annotated[
    list[str] | None,
    typer.Option(
        "--prune-layer",
        metavar="PATTERN=RATIO",
        help="Of layers by name, e.g. 'stages.3.*=0.7'; the first that fits. Repeatable.",
        rich_help_panel=_PANEL,
    ),
]
Importance = Annotated[
    ImportanceChoice, typer.Option("--importance", help="By what the least important go.", rich_help_panel=_PANEL)
]
PruneScope = Annotated[
    ScopeChoice, typer.Option("--prune-scope", help="That share of every layer, or of all.", rich_help_panel=_PANEL)
]
PruneSteps = Annotated[
    int, typer.Option("--prune-steps", min=1, help="Prune and train in so many steps.", rich_help_panel=_PANEL)
]
PruneMultiple = Annotated[
    int | None,
    typer.Option("--prune-multiple", min=1, help="Of channel counts; default: the target's.", rich_help_panel=_PANEL),
]
Finetune = Annotated[
    str | None,
    typer.Option("--finetune", metavar="DATA", help="Train the pruned model on it.", rich_help_panel=_PANEL),
]
Epochs = Annotated[
    int, typer.Option("--epochs", min=1, help="Fine-tuning epochs per pruning step.", rich_help_panel=_PANEL)
]
LearningRate = Annotated[float, typer.Option("--lr", help="Peak learning rate of fine-tuning.", rich_help_panel=_PANEL)]
DistillTemperature = Annotated[
    float, typer.Option("--distill-temperature", help="The unpruned model teaches softly.", rich_help_panel=_PANEL)
]
DistillFeatures = Annotated[
    float, typer.Option("--distill-features", help="Weight of its last feature map.", rich_help_panel=_PANEL)
]


_OF_PRUNING = {
    *("importance", "prune_scope", "prune_steps", "prune_multiple"),
    *("epochs", "lr", "distill_temperature", "distill_features"),
}


@dataclass(frozen=True)
class PruneOptions:
    """The options as they were typed."""

    ratio: float | None
    layers: list[str] | None
    importance: ImportanceChoice
    scope: ScopeChoice
    steps: int
    multiple: int | None
    finetune: str | None
    epochs: int
    learning_rate: float
    temperature: float
    features: float
    seed: int

    def compression(self, typed: Sequence[str]) -> Compression | None:
        """What the exporter is asked for; None without pruning.

        UsageError for what makes no sense: options of pruning among those `typed` where nothing is pruned.
        """
        if self.ratio is None and not self.layers:
            if "finetune" in typed:
                raise UsageError("--finetune trains what was pruned; give --prune RATIO, or use 'edgeact train --init'")
            if idle := [f"--{name.replace('_', '-')}" for name in typed if name in _OF_PRUNING]:
                raise UsageError(f"{', '.join(idle)} says how to prune, and nothing is pruned; give --prune RATIO")
            return None
        from edgeact.export.build.compress import Compression
        from edgeact.export.prune import PruneRequest
        from edgeact.export.train.distill import Distillation
        from edgeact.export.train.loop import TrainPlan

        return Compression(
            prune=PruneRequest(
                ratio=self.ratio or 0.0,
                scope="global" if self.scope is ScopeChoice.globally else "layer",
                ratios=dict(_layer_ratio(text) for text in self.layers or ()),
                importance=self.importance.value,
            ),
            channel_multiple=self.multiple,
            finetune=self.finetune,
            steps=self.steps,
            train=TrainPlan(epochs=self.epochs, learning_rate=self.learning_rate, seed=self.seed),
            distillation=Distillation(temperature=self.temperature, feature_weight=self.features),
        )


def _layer_ratio(text: str) -> tuple[str, float]:
    pattern, _, ratio = text.rpartition("=")
    wrong = UsageError(f"expected --prune-layer PATTERN=RATIO, e.g. 'stages.3.*=0.7', got '{text}'")
    if not pattern:
        raise wrong
    try:
        return pattern, float(ratio)
    except ValueError as error:
        raise wrong from error


def show_plan(event: object) -> None:
    """Print the pruning plan of a `PlanReady` event on standard error; ignore other events."""
    from edgeact.export.build.compress import PlanReady

    if isinstance(event, PlanReady):
        aside(event.plan.table(event.latency))
