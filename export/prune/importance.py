"""How much a unit of channels matters, by torch-pruning's own measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeact.errors import UsageError
from edgeact.export.models.pruning.plan import Importance
from edgeact.export.prune.trace import ChannelGroup, Traced
from edgeact.extras import require

__all__ = ["accumulate_gradients", "score_families"]

Scores = npt.NDArray[np.float64]

_MEASURES: dict[Importance, Callable[[Any], Any]] = {
    "l2": lambda measures: measures.GroupMagnitudeImportance(p=2, normalizer=None),
    "taylor": lambda measures: measures.GroupTaylorImportance(normalizer=None),
    "bn-scale": lambda measures: measures.BNScaleImportance(normalizer=None),
}


def score_families(module: nn.Module, traced: Traced, importance: Importance) -> list[Scores]:
    """A score of every unit of every family, `(units,)` each, of mean 1; the larger, the more it matters.

    l2: mean squared weight over all layers a unit hangs on. taylor: the same of |weight x gradient|, for which
    `accumulate_gradients` must have been called. bn-scale: mean |scale| of its batch norms, l2 where it has none.
    """
    if importance == "taylor" and not any(parameter.grad is not None for parameter in module.parameters()):
        raise UsageError("importance 'taylor' needs gradients: call accumulate_gradients with clips and labels first")
    measures = require("torch_pruning", "export").pruner.importance
    chosen, general = (_MEASURES[name](measures) for name in (importance, _GENERAL))
    scores = []
    for family in traced.families:
        group = _group(family, traced)
        values = chosen(group)
        values = general(group) if values is None else values
        flat = np.ones(family.size) if values is None else values[: family.size].double().cpu().numpy()
        scores.append(flat / mean if (mean := flat.mean()) > 0 else flat)
    return scores


_GENERAL: Importance = "l2"


def _group(family: ChannelGroup, traced: Traced) -> list[Any]:
    """The family as torch-pruning has a group: the layers, their channels, and whose unit each channel is."""
    pruning = require("torch_pruning", "export")
    item_of, dependency = pruning._helpers.GroupItem, pruning.dependency.dependency.Dependency
    group = []
    for member in family.members:
        node, handler = traced.handlers[member.layer, member.side]
        channels, owners = member.slots.reshape(-1), np.repeat(np.arange(family.size), member.slots.shape[1])
        order = np.argsort(channels, kind="stable")
        item = item_of(dependency(handler, handler, node, node), channels[order].tolist())
        item.root_idxs = owners[order].tolist()
        group.append(item)
    return group


def accumulate_gradients(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Leave the gradient of the mean loss over `batches` of clips `(N, 3, T, H, W)` and labels `(N,)` in `module`.

    In evaluation mode: the statistics of norms stay as they are. Returns the number of clips; UsageError for none.
    """
    training = module.training
    module.eval().zero_grad(set_to_none=True)
    count = 0
    try:
        with torch.enable_grad():
            for clips, labels in batches:
                loss = functional.cross_entropy(module(clips), labels, reduction="sum")
                loss.backward()  # type: ignore[no-untyped-call]
                count += len(labels)
    finally:
        module.train(training)
    if not count:
        raise UsageError("expected at least one clip to take gradients of, got none")
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad /= count
    return count
