"""Importance of units of coupled channels, by torch-pruning's measures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeact.errors import UsageError
from edgeact.export.models.hooks import evaluated
from edgeact.export.models.pruning.apply import channel_count
from edgeact.export.models.pruning.plan import Importance
from edgeact.export.prune.dependency_graph import ScoredSide, score_channels
from edgeact.export.prune.trace import ChannelGroup

__all__ = ["Scores", "accumulate_gradients", "score_groups"]

Scores = npt.NDArray[np.float64]

_GENERAL: Importance = "l2"


def score_groups(module: nn.Module, groups: Iterable[ChannelGroup], importance: Importance) -> list[Scores]:
    """Score every unit of every group, `(units,)` each, normalized to a mean of 1; higher is more important.

    l2: mean squared weight over all layers of a unit. taylor: mean abs(weight * gradient), which needs
    `accumulate_gradients` first. bn-scale: mean abs(scale) of the batch norms, l2 if a group has none.
    Raises UsageError for taylor without gradients.
    """
    if importance == "taylor" and not any(parameter.grad is not None for parameter in module.parameters()):
        raise UsageError(
            "importance 'taylor': expected gradients of the parameters, got none; call accumulate_gradients with "
            "clips and labels first"
        )
    return [_score(module, group, importance) for group in groups]


def _score(module: nn.Module, group: ChannelGroup, importance: Importance) -> Scores:
    values = score_channels(importance, _sides(module, group))
    if values is None:
        values = score_channels(_GENERAL, _sides(module, group))
    if values is None:
        return np.ones(group.size)
    scores = values[: group.size].double().cpu().numpy()
    return scores / mean if (mean := scores.mean()) > 0 else scores


def _sides(module: nn.Module, group: ChannelGroup) -> Iterator[ScoredSide]:
    for member in group.members:
        layer = module.get_submodule(member.layer)
        if channel_count(layer, member.side) is None:
            continue
        channels = member.channels.reshape(-1)
        units = np.repeat(np.arange(group.size), member.channels.shape[1])
        order = np.argsort(channels, kind="stable")
        yield ScoredSide(layer, member.side, tuple(channels[order].tolist()), tuple(units[order].tolist()))


def accumulate_gradients(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Compute the gradient of the mean cross-entropy over `batches` into the parameters' `grad`.

    A batch is clips `(N, 3, T, H, W)` and labels `(N,)`. Runs in evaluation mode, so that batch norms keep their
    statistics. Returns the number of clips; raises UsageError if there are none.
    """
    count = 0
    module.zero_grad(set_to_none=True)
    with evaluated(module), torch.enable_grad():
        for clips, labels in batches:
            loss = functional.cross_entropy(module(clips), labels, reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
            count += len(labels)
    if not count:
        raise UsageError("expected at least one clip to compute gradients on, got none")
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad /= count
    return count
