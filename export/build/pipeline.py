"""One build for all: a recipe and a table of stages; export, calibration, search and the matrix are drivers of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from edgeact.errors import UsageError
from edgeact.export.build.compress import fine_tune, prune
from edgeact.export.build.judge import check, measure, select
from edgeact.export.build.load import load
from edgeact.export.build.lower import calibrate, emit, lower, quantize
from edgeact.export.build.recipe import Recipe
from edgeact.export.build.state import Build, Context, Stage, StageFunction
from edgeact.export.build.write import write
from edgeact.progress import Callbacks

__all__ = ["STAGES", "build", "through"]

STAGES: dict[Stage, StageFunction] = {
    "load": load,
    "prune": prune,
    "train": fine_tune,
    "lower": lower,
    "calibrate": calibrate,
    "quantize": quantize,
    "emit": emit,
    "check": check,
    "measure": measure,
    "select": select,
    "write": write,
}
"""Every stage in order; a stage takes the build so far and returns a changed copy."""


def through(last: Stage) -> tuple[Stage, ...]:
    """Return the stages from the first to `last`."""
    names = tuple(STAGES)
    return names[: names.index(last) + 1]


def build(
    recipe: Recipe | Build,
    stages: Sequence[Stage] = tuple(STAGES),
    callbacks: Callbacks | None = None,
    *,
    out: Path | None = None,
    module: nn.Module | None = None,
) -> Build:
    """Run `stages` of a recipe, or go on with a build from the first of them that has not run.

    `out` is the file of the bundle (needed by 'write', and by 'train' for the weights beside it); a bundle that was
    there is kept on failure. `module` is built in place of the recipe's source; it is put in evaluation mode on the
    CPU and otherwise not changed. Raises UsageError for stages out of order, DataError, ModelError, ConversionError,
    ParityError and StorageError, each naming subject, expected and got.
    """
    result = recipe if isinstance(recipe, Build) else Build(recipe)
    left = [stage for stage in stages if stage not in result.stages]
    ordered = tuple(STAGES)[: len(result.stages) + len(left)]
    if (*result.stages, *left) != ordered:
        raise UsageError(
            f"build: expected the stages in the order {', '.join(STAGES)} without a gap, got "
            f"{', '.join((*result.stages, *left))}"
        )
    context = Context(callbacks or Callbacks(), out, module)
    context.calibration_only = ordered[-1:] in (("lower",), ("calibrate",))
    for stage in left:
        result = STAGES[stage](result, context)
        result = replace(result, stages=(*result.stages, stage))
    return result
