"""What the native engine requires of a layer, and the typed reason why a layer cannot run."""

from __future__ import annotations

from typing import Literal

from edgeact.schema import StrictModel

__all__ = ["NativeRequirement", "UnsupportedLayer"]

NativeRequirement = Literal[
    "operator",
    "static-shape",
    "tensor-shape",
    "readable-input",
    "per-tensor-scale",
    "quantized-input",
    "constant-weights",
    "constant-bias",
    "constant-bounds",
    "plain-conv",
    "conv-3d",
    "one-clip-reader",
    "int8-pool",
    "plain-pool",
    "plain-average",
    "int8-channel-split",
    "channel-concat",
    "single-channel-concat",
    "same-order",
    "space-to-depth",
    "two-inputs",
    "reduced-activation",
    "reduced-shape",
    "transposed-gemm",
    "vector-input",
    "small-float-layer",
    "same-size-float-conv",
    "fused-add-inputs",
    "unshared-conv",
    "conv-before-add",
    "aligned-channels",
    "whole-tensor",
]
"""Requirement of the native engine; `edgeact.phrases` has each in English, with advice.

'plain-conv' is only found in records of earlier releases: the engine runs groups and dilations."""


class UnsupportedLayer(StrictModel):
    """A layer that does not meet a requirement of the native engine; `got` is what the layer has instead."""

    kind: Literal["unsupported-layer"] = "unsupported-layer"
    layer: str
    operator: str
    requirement: NativeRequirement
    got: str
