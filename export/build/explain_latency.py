"""Causes of a candidate's latency by its backend's profile: missing kernels, copies and reformats, channel counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from torch.nn.modules.conv import _ConvNd

from edgeact.devices import DeviceProfile
from edgeact.export.build.measure import Meter
from edgeact.export.build.profiling import NodeTime, profile_nodes
from edgeact.export.candidates.candidate import Candidate
from edgeact.precision import Precision
from edgeact.reasons import (
    ChannelsOffMultiple,
    Float32Kernels,
    InstructionSet,
    KernelsMissing,
    LatencyCause,
    LayoutCopies,
    ProfileFailed,
)
from edgeact.runtime import get_backend
from edgeact.runtime.native.library import chosen_isa

__all__ = ["latency_causes", "with_causes"]

_PRODUCTS = ("conv", "gemm", "matmul", "fullyconnected")
"""Parts of the names that OpenVINO and ONNX Runtime give to convolutions and matrix products, fused or not."""
_MOVING = (
    *("Concat", "Convert", "DequantizeLinear", "FakeQuantize", "Gather", "Pad", "QuantizeLinear", "Reorder"),
    *("ReorderInput", "ReorderOutput", "Reshape", "Slice", "Split", "StridedSlice", "Transpose", "VariadicSplit"),
)
_FASTEST_NATIVE = "amx-int8"
_LEAST_SHARE = 0.03  # of the latency; less causes nothing
_MOST_OPERATORS = 3


def with_causes(candidates: Sequence[Candidate], meter: Meter, profile: DeviceProfile) -> tuple[Candidate, ...]:
    """Return the candidates, all timed ones but the fastest with the causes of their latency on this CPU."""
    medians = [candidate.latency.p50_ms for candidate in candidates if candidate.latency]
    fastest_ms = min(medians, default=0.0)
    return tuple(
        replace(candidate, latency_causes=_causes(candidate, meter, profile))
        if candidate.latency and candidate.latency.p50_ms > fastest_ms
        else candidate
        for candidate in candidates
    )


def latency_causes(candidate: Candidate, nodes: Sequence[NodeTime]) -> list[LatencyCause]:
    """Return what the profile of a candidate says of its latency; empty if it says nothing."""
    if candidate.checked_by == "native":
        used = chosen_isa()
        return [] if used == _FASTEST_NATIVE else [InstructionSet(used=str(used), fastest=_FASTEST_NATIVE)]
    working = [node for node in nodes if node.kind not in _MOVING]
    products = [node for node in working if any(part in node.kind.lower() for part in _PRODUCTS)]
    causes: list[LatencyCause] = []
    if products and (kernels := _kernels(candidate, products)) is not None:
        causes.append(kernels)
    if (copies := _copies(nodes)) is not None:
        causes.append(copies)
    return causes


def _causes(candidate: Candidate, meter: Meter, profile: DeviceProfile) -> tuple[LatencyCause, ...]:
    try:
        causes = latency_causes(candidate, profile_nodes(candidate, meter.data.parity.inputs[0], meter.threads))
    except get_backend(str(candidate.checked_by)).errors() as error:  # the candidate ran when it was timed
        causes = [ProfileFailed(error=type(error).__name__)]
    off_multiple = _channels_off_multiple(meter.model.module, candidate.precision, profile)
    return (*causes, *([off_multiple] if off_multiple else []))


def _copies(nodes: Sequence[NodeTime]) -> LayoutCopies | None:
    """Return the share of copies and changes of layout or precision, if it is worth telling."""
    total = sum(node.ms for node in nodes)
    moving: Counter[str] = Counter()
    for node in nodes:
        if node.kind in _MOVING:
            moving[node.kind] += node.ms  # type: ignore[assignment]  # a Counter adds up floats as well
    share = moving.total() / total if total else 0.0
    if share < _LEAST_SHARE:
        return None
    return LayoutCopies(share=share, operators=tuple(kind for kind, _ in moving.most_common(_MOST_OPERATORS)))


def _kernels(candidate: Candidate, products: Sequence[NodeTime]) -> KernelsMissing | Float32Kernels | None:
    """Return how many convolutions and matrix products have no kernel in the candidate's precision."""
    precision, small = candidate.precision, {"int8": ("i8", "u8"), "fp16": ("bf16", "f16")}
    if precision == "fp32":
        return Float32Kernels()
    others = [node for node in products if node.precision not in small[precision]]
    missing = len(others) - (len(candidate.float_layers) if precision == "int8" else 0)
    if missing <= 0:
        return None
    names = tuple(sorted({node.precision for node in others}))
    return KernelsMissing(precision=precision, count=missing, total=len(products), computed_in=names)


def _channels_off_multiple(
    module: nn.Module, precision: Precision, profile: DeviceProfile
) -> ChannelsOffMultiple | None:
    multiple = profile.channel_multiple_int8 if precision == "int8" else profile.channel_multiple_fp16
    if multiple is None or precision == "fp32":
        return None
    convolutions = [layer for layer in module.modules() if isinstance(layer, _ConvNd)]
    off = sum(bool(layer.in_channels % multiple or layer.out_channels % multiple) for layer in convolutions)
    return ChannelsOffMultiple(count=off, total=len(convolutions), multiple=multiple) if off else None
