"""Why an artifact takes longer than the chosen one: missing kernels, copies and reformats, channel counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from torch.nn.modules.conv import _ConvNd

from edgeact.devices import DeviceProfile
from edgeact.export.build.measure import Measured, Meter
from edgeact.export.build.profiling import NodeTime, profile_nodes
from edgeact.export.candidates.candidate import Variant
from edgeact.records import Precision
from edgeact.runtime import get_backend
from edgeact.runtime.native.library import best_isa

__all__ = ["explained", "reasons"]

_PRODUCTS = ("conv", "gemm", "matmul", "fullyconnected")
"""Parts of the names that OpenVINO and ONNX Runtime give to convolutions and matrix products, fused or not."""
_MOVING = (
    *("Concat", "Convert", "DequantizeLinear", "FakeQuantize", "Gather", "Pad", "QuantizeLinear", "Reorder"),
    *("ReorderInput", "ReorderOutput", "Reshape", "Slice", "Split", "StridedSlice", "Transpose", "VariadicSplit"),
)
_LEAST_SHARE = 0.03  # of the time; less is nobody's reason
_MOST_KINDS = 3


def explained(measured: Measured, variants: Sequence[Variant], meter: Meter, profile: DeviceProfile) -> Measured:
    """`measured` with the reasons of all timed variants but the fastest, by a profile of each on this CPU."""
    timed = [variant for variant in variants if variant.artifact.name in measured.latencies]
    found = {}
    for variant in sorted(timed, key=lambda one: measured.latencies[one.artifact.name].p50_ms)[1:]:
        try:
            told = reasons(variant, profile_nodes(variant, meter.data.parity.inputs[0], meter.threads))
        except get_backend(str(variant.checked_by)).errors() as error:  # it ran when it was timed: tell, and go on
            told = [f"it could not be profiled ({type(error).__name__})"]
        told += _narrow(meter.model.module, variant.artifact.precision, profile)
        found[variant.artifact.name] = ", ".join(told)
    return replace(measured, reasons=found)


def reasons(variant: Variant, nodes: Sequence[NodeTime]) -> list[str]:
    """What the profile of a variant says of its time; empty where it says nothing."""
    if variant.checked_by == "native":
        return [] if best_isa() == "amx-int8" else [f"its kernels here are of {best_isa()}, not of AMX"]
    working = [node for node in nodes if node.kind not in _MOVING]
    products = [node for node in working if any(part in node.kind.lower() for part in _PRODUCTS)]
    told = [_kernels(variant, products)] if products else []
    total = sum(node.ms for node in nodes)
    moving: Counter[str] = Counter()
    for node in nodes:
        if node.kind in _MOVING:
            moving[node.kind] += node.ms  # type: ignore[assignment]  # a Counter adds up floats as well
    share = moving.total() / total if total else 0.0
    if share >= _LEAST_SHARE:
        kinds = ", ".join(kind for kind, _ in moving.most_common(_MOST_KINDS))
        told.append(f"{share:.0%} of its time is copies and changes of layout or precision ({kinds})")
    return [one for one in told if one]


def _kernels(variant: Variant, products: Sequence[NodeTime]) -> str:
    """Which of the convolutions and matrix products have no kernel in the artifact's precision."""
    precision, small = variant.artifact.precision, {"int8": ("i8", "u8"), "fp16": ("bf16", "f16")}
    if precision == "fp32":
        return "computed in f32"
    others = [node for node in products if node.precision not in small[precision]]
    missing = len(others) - (len(variant.artifact.float_layers) if precision == "int8" else 0)
    if missing <= 0:
        return ""
    names = "/".join(sorted({node.precision for node in others}))
    label = "INT8" if precision == "int8" else "FP16 or BF16"
    return f"no {label} kernel for {missing} of {len(products)} convolutions and products, computed in {names}"


def _narrow(module: nn.Module, precision: Precision, profile: DeviceProfile) -> list[str]:
    multiple = profile.channel_multiple_int8 if precision == "int8" else profile.channel_multiple_fp16
    if multiple is None or precision == "fp32":
        return []
    convolutions = [layer for layer in module.modules() if isinstance(layer, _ConvNd)]
    odd = sum(bool(layer.in_channels % multiple or layer.out_channels % multiple) for layer in convolutions)
    if not odd:
        return []
    return [f"{odd} of {len(convolutions)} convolutions have channel counts off the multiple of {multiple}"]
