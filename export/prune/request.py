"""The request that a pruning plan answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeact.errors import UsageError
from edgeact.export.models.pruning.plan import IMPORTANCES, Importance, Scope
from edgeact.export.prune.trace import GroupKey

__all__ = ["PruneRequest"]


@dataclass(frozen=True)
class PruneRequest:
    """How much to prune, and by which importance."""

    ratio: float = 0.5
    """Share of prunable channels to remove, within [0, 1)."""
    scope: Scope = "layer"
    """layer: apply the ratio to every layer; global: to all channels together, the least important of all first."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    """Ratios by layer name pattern ('stages.0.*') instead of `ratio`; the first pattern that matches an output layer of
    a group of coupled channels applies to the group, 0 excludes it."""
    importance: Importance = "l2"
    channel_multiple: int = 1
    """Widths become multiples of this number, such as `channel_multiple_int8` of a device profile."""
    max_ratio: float = 0.9
    """Largest share removed from any group of coupled channels, within (0, 1)."""
    original_sizes: Mapping[GroupKey, int] = field(default_factory=dict)
    """`group_sizes` of the module before earlier steps pruned it. All ratios refer to these sizes, so that several
    steps reach the widths of one step; for a group without an entry, to its present size."""

    def __post_init__(self) -> None:
        for name, ratio in (("ratio", self.ratio), *self.ratios.items()):
            if not 0 <= ratio < 1:
                raise UsageError(f"expected a pruning ratio within [0, 1), got {ratio:g} for '{name}'")
        if self.channel_multiple < 1:
            raise UsageError(f"expected a channel multiple of at least 1, got {self.channel_multiple}")
        if not 0 < self.max_ratio < 1:
            raise UsageError(f"expected a largest pruning ratio within (0, 1), got {self.max_ratio:g}")
        if self.importance not in IMPORTANCES:
            raise UsageError(f"expected an importance of {', '.join(IMPORTANCES)}, got '{self.importance}'")
        if self.scope not in ("layer", "global"):
            raise UsageError(f"expected a pruning scope of layer or global, got '{self.scope}'")
