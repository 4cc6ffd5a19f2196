"""Structured channel pruning: plan first, then apply.

    plan = plan_pruning(module, clip.input_shape, PruneRequest(0.5, channel_multiple=16), weights_sha256)
    rich.print(plan.table())
    apply_plan(module, plan)
    write_weights(path, module, card.pruned_by(plan))

From there `load_model(name, LoadRequest(weights=path))`, and with it every verb that takes weights, rebuilds the
pruned model. `finetune.prune_and_finetune` does all of it in steps, each trained with the unpruned model as teacher;
`latency.plan_latency` says what a plan gains in time. For the importance 'taylor', `accumulate_gradients` goes first.
The whole of the graph is in the plan: applying and rebuilding do not need torch-pruning.
"""

from edgeact.export.models.pruning.apply import zero_removed_channels
from edgeact.export.models.pruning.plan import PruningPlan
from edgeact.export.prune.importance import accumulate_gradients
from edgeact.export.prune.planning import PruneRequest, apply_plan, plan_pruning

__all__ = ["PruneRequest", "PruningPlan", "accumulate_gradients", "apply_plan", "plan_pruning", "zero_removed_channels"]
