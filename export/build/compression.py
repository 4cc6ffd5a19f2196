"""What a recipe says of pruning and of the fine-tuning after it."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeact.errors import UsageError
from edgeact.export.prune.request import PruneRequest
from edgeact.export.train.distill import Distillation
from edgeact.export.train.plan import TrainPlan

__all__ = ["Compression"]


@dataclass(frozen=True)
class Compression:
    """Channels to remove, and how the remaining network is fine-tuned.

    Raises UsageError if fine-tuning data is missing that the importance or the number of steps needs.
    """

    prune: PruneRequest
    """Its channel multiple is replaced by `channel_multiple`, or by the target profile's if that is None."""
    channel_multiple: int | None = None
    finetune: str | None = None
    """Data set with the model's labels and a train split; None: no fine-tuning."""
    steps: int = 1
    """Number of times to prune and fine-tune, towards the same ratios."""
    train: TrainPlan = field(default_factory=lambda: TrainPlan(epochs=3, learning_rate=1e-3))
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        if self.finetune is None and self.prune.importance == "taylor":
            raise UsageError("importance 'taylor' takes gradients from training clips; give them with --finetune DATA")
        if self.finetune is None and self.steps > 1:
            raise UsageError(f"{self.steps} pruning steps need fine-tuning between them; give --finetune DATA")
