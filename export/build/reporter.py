"""What an export tells of what goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeact.export.models.pruning.plan import PlanLatency, PruningPlan
from edgeact.progress import OnStep

__all__ = ["Reporter"]


@dataclass(frozen=True)
class Reporter:
    """Callbacks for what goes on; each may be left out, and none is called while a clip is timed."""

    on_step: Callable[[str], None] = lambda _title: None
    on_progress: OnStep = lambda _title, _done, _total: None
    on_note: Callable[[str], None] = lambda _text: None
    on_plan: Callable[[PruningPlan, PlanLatency | None], None] = lambda _plan, _latency: None
    """What will be taken out, before it is, and what that gains in time where that can be said."""
