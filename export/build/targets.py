"""Which artifacts each family of targets gets: one literal table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from edgeact.export.candidates.candidate import Sources, Variant
from edgeact.export.cpu.candidates import cpu_variants
from edgeact.export.tensorrt.candidates import desktop_variants, jetson_variants

__all__ = ["VARIANTS"]

VARIANTS: dict[Literal["jetson", "desktop", "cpu"], Callable[[Sources], list[Variant]]] = {
    "jetson": jetson_variants,
    "desktop": desktop_variants,
    "cpu": cpu_variants,
}
