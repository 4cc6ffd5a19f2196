"""All exact rewrites in the order in which they are tried, and their application to a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from edgeact.errors import ConversionError
from edgeact.export.graph.edit import remove_unused
from edgeact.export.graph.passes.absorb_split_into_conv import AbsorbSplitIntoConv
from edgeact.export.graph.passes.base import Refusal, Rewrite, RewriteOutcome
from edgeact.export.graph.passes.convert_stem_to_space_to_depth import ConvertStemToSpaceToDepth
from edgeact.export.graph.passes.fuse_mean_mul_sum import FuseMeanMulSum
from edgeact.export.graph.passes.pad_channels import PadChannels
from edgeact.export.graph.passes.trim_padded_kernel_taps import TrimPaddedKernelTaps
from edgeact.export.graph.proto import find_fault, infer_anew

__all__ = ["REWRITES", "apply_rewrites"]

REWRITES: tuple[Rewrite[Any], ...] = (  # every rewrite has a plan of its own type
    ConvertStemToSpaceToDepth(),
    AbsorbSplitIntoConv(),
    FuseMeanMulSum(),
    TrimPaddedKernelTaps(),
    PadChannels(),
)


def apply_rewrites(model: ir.Model, rewrites: Sequence[Rewrite[Any]]) -> tuple[ir.Model, list[RewriteOutcome]]:
    """Return a rewritten copy of `model`, which is not changed, and the outcome of every rewrite.

    Raises ConversionError if a rewrite leaves an invalid graph, which is a defect of the rewrite.
    """
    changed = model.clone()
    outcomes = []
    for rewrite in rewrites:
        plan = rewrite.check(changed)
        if isinstance(plan, Refusal):
            outcomes.append(RewriteOutcome(rewrite.name, plan))
            continue
        rewrite.rewrite(changed, plan)
        remove_unused(changed)
        _validate(changed, rewrite.name)
        outcomes.append(RewriteOutcome(rewrite.name))
    return changed, outcomes


def _validate(model: ir.Model, rewrite: str) -> None:
    infer_anew(model)
    if fault := find_fault(model):
        raise ConversionError(f"rewrite '{rewrite}' left an invalid graph: {fault}")
