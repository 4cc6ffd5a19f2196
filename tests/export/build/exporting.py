"""A whole build with module objects and files, that tests change with dataclasses.replace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from edgeact.bundle import Bundle
from edgeact.export.build import Compression, DataPlan, Recipe, build
from edgeact.export.build.recipe import PrecisionChoice
from edgeact.export.models.loading import LoadRequest
from edgeact.progress import Callbacks

__all__ = ["Case", "export"]


@dataclass(frozen=True)
class Case:
    """A recipe, flat, with its file and perhaps a module object as the source."""

    target: str
    out: Path
    source: str | nn.Module | None = None
    load: LoadRequest = field(default_factory=LoadRequest)
    precision: PrecisionChoice = "auto"
    data: DataPlan = field(default_factory=lambda: DataPlan(None))
    max_drop_points: float = 1.0
    threads: int | None = None
    sensitivity: bool = False
    compression: Compression | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe of the case."""
        return Recipe(
            target=self.target,
            source=None if isinstance(self.source, nn.Module) else self.source,
            load=self.load,
            data=self.data,
            compression=self.compression,
            precision=self.precision,
            max_drop_points=self.max_drop_points,
            sensitivity=self.sensitivity,
            threads=self.threads,
        )


def export(case: Case, callbacks: Callbacks | None = None) -> Bundle:
    """Build the case through all stages."""
    module = case.source if isinstance(case.source, nn.Module) else None
    return build(case.recipe, callbacks=callbacks, out=case.out, module=module).bundle
