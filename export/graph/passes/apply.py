"""All exact rewrites in the order they are tried, and applying those a target wins by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from edgeact.errors import ConversionError
from edgeact.export.graph.passes.absorb_split_into_conv import CarriedHalves
from edgeact.export.graph.passes.base import Applied, Refusal, Rewrite
from edgeact.export.graph.passes.fuse_mean_mul_sum import OnePassSums
from edgeact.export.graph.passes.pad_channels import PaddedChannels
from edgeact.export.graph.passes.space_to_depth_stem import SpaceToDepthStem
from edgeact.export.graph.passes.trim_padded_kernel_taps import DeadTaps
from edgeact.export.graph.torch_to_onnx import drop_unused_initializers

__all__ = ["REWRITES", "apply_rewrites"]

REWRITES: tuple[Rewrite[Any], ...] = (SpaceToDepthStem(), CarriedHalves(), OnePassSums(), DeadTaps(), PaddedChannels())


def apply_rewrites(model: onnx.ModelProto, rewrites: Sequence[Rewrite[Any]]) -> tuple[onnx.ModelProto, list[Applied]]:
    """A rewritten copy of `model`, and for every rewrite what it did or why it did not apply.

    `model` is not changed. Raises ConversionError where a rewrite leaves an invalid graph, a defect of the rewrite.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    report = []
    for rewrite in rewrites:
        plan = rewrite.check(changed)
        if isinstance(plan, Refusal):
            report.append(Applied(rewrite.name, False, plan.reason))
            continue
        rewrite.rewrite(changed, plan)
        drop_unused_initializers(changed)
        del changed.graph.value_info[:]  # shapes of the old intermediate tensors
        report.append(Applied(rewrite.name, True, "equal within rounding"))
    try:
        changed = onnx.shape_inference.infer_shapes(changed, strict_mode=True)
        onnx.checker.check_model(changed, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"a rewrite left an invalid graph: {str(error).splitlines()[0]}") from error
    return changed, report
