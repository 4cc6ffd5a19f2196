"""Graphs and candidates of each family of targets: one literal table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgeact.export.candidates.candidate import BuildInputs, Emitted, TargetGraph, TargetGraphs
from edgeact.export.candidates.int8 import Tuning
from edgeact.export.cpu.candidates import cpu_candidates, cpu_graphs
from edgeact.export.tensorrt.candidates import (
    desktop_candidates,
    desktop_graphs,
    jetson_candidates,
    jetson_graphs,
)
from edgeact.progress import Callbacks

__all__ = ["FAMILIES", "TargetFamily"]


@dataclass(frozen=True)
class TargetFamily:
    """The two steps from a master graph to candidates."""

    graphs: Callable[[BuildInputs, Tuning | None, Callbacks], TargetGraphs]
    emit: Callable[[BuildInputs, tuple[TargetGraph, ...], Callbacks], Emitted]


FAMILIES: dict[Literal["jetson", "desktop", "cpu"], TargetFamily] = {
    "jetson": TargetFamily(jetson_graphs, jetson_candidates),
    "desktop": TargetFamily(desktop_graphs, desktop_candidates),
    "cpu": TargetFamily(cpu_graphs, cpu_candidates),
}
