"""Structured channel pruning: plan first, then apply.

    plan = plan_pruning(module, clip.input_shape, PruneRequest(0.5, channel_multiple=16), weights_sha256)
    apply_plan(module, plan)
    write_weights(path, module, card.pruned_by(plan))

`load_model(name, LoadRequest(weights=path))`, and with it every command that takes weights, then rebuilds the pruned
model. `train.finetune.prune_and_finetune` prunes in several steps and trains after each, with the unpruned model as
teacher; `build.pruning_latency.plan_latency` predicts the gain in time. The importance 'taylor' needs
`accumulate_gradients` first. A plan contains everything that its application needs: torch-pruning is only asked to
make one.
"""

from edgeact.export.models.pruning.apply import zero_removed_channels
from edgeact.export.models.pruning.plan import PruningPlan
from edgeact.export.prune.importance import accumulate_gradients
from edgeact.export.prune.planning import apply_plan, plan_pruning
from edgeact.export.prune.request import PruneRequest

__all__ = [
    "PruneRequest",
    "PruningPlan",
    "accumulate_gradients",
    "apply_plan",
    "plan_pruning",
    "zero_removed_channels",
]
