"""Causes of latency, from profiles made by hand and real ones."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir
import pytest

from edgeact.bench import summarize
from edgeact.devices import load_profile
from edgeact.export.build.data import ExportData
from edgeact.export.build.explain_latency import latency_causes, with_causes
from edgeact.export.build.measure import Meter
from edgeact.export.build.profiling import NodeTime, profile_nodes
from edgeact.export.graph.proto import to_bytes
from edgeact.export.models.loading import LoadedModel
from edgeact.layer_reasons import AttentionGate
from edgeact.precision import Precision
from edgeact.reasons import (
    ChannelsOffMultiple,
    Float32Kernels,
    KernelsMissing,
    LatencyCause,
    LayoutCopies,
    ProfileFailed,
)
from tests.export.build.making import onnx_file
from tests.export.build.test_profiling import CLIP, candidate
from tests.export.cpu.native.making import integer

CONV = NodeTime("c", "Convolution", "i8", 6.0)

CASES: dict[str, tuple[Precision, list[NodeTime], list[LatencyCause]]] = {
    "nothing to say": ("int8", [CONV, NodeTime("p", "MaxPool", "i8", 1.0)], []),
    "no kernel": (
        "int8",
        [CONV, NodeTime("d", "Conv", "f32", 9.0), NodeTime("e", "FusedGemm", "f32", 1.0)],
        [KernelsMissing(precision="int8", count=1, total=3, computed_in=("f32",))],  # one is kept in float by decision
    ),
    "no half precision": (
        "fp16",
        [NodeTime("c", "Convolution", "f32", 6.0)],
        [KernelsMissing(precision="fp16", count=1, total=1, computed_in=("f32",))],
    ),
    "float asked for": ("fp32", [NodeTime("c", "Convolution", "f32", 6.0)], [Float32Kernels()]),
    "copies": (
        "int8",
        [CONV, NodeTime("s", "VariadicSplit", "i8", 1.0), NodeTime("t", "Concat", "i8", 3.0)],
        [LayoutCopies(share=0.4, operators=("Concat", "VariadicSplit"))],
    ),
    "a Convert is no convolution": (
        "int8",
        [CONV, NodeTime("v", "Convert", "f32", 2.0), NodeTime("w", "Convert", "f32", 2.0)],
        [LayoutCopies(share=0.4, operators=("Convert",))],
    ),
    "few copies": ("int8", [CONV, NodeTime("s", "Reorder", "i8", 0.1)], []),
    "no profile": ("int8", [], []),
}


@pytest.mark.parametrize("case", CASES)
def test_latency_causes(case: str) -> None:
    precision, nodes, expected = CASES[case]
    assert latency_causes(candidate("openvino", precision, {"gate": AttentionGate()}), nodes) == expected


@pytest.mark.timing  # the share of the copies in one profile: another process at work changes it
def test_onnx_runtime_reformats_for_int8() -> None:
    slow = candidate("onnxruntime", "int8")
    causes = latency_causes(slow, profile_nodes(slow, CLIP, 1))
    assert any(isinstance(cause, LayoutCopies) for cause in causes)


def test_all_but_the_fastest_have_causes_even_if_profiling_fails(
    colours: LoadedModel, colour_data: ExportData, colour_master: ir.Model
) -> None:
    meter = Meter(colours, colour_data, 1)
    data = to_bytes(integer(colour_master, meter.data.parity.inputs[:2]))
    candidates = [
        onnx_file("slower", "int8", data),
        onnx_file("fastest", "fp32", to_bytes(colour_master)),
        onnx_file("broken", "int8", b"no graph"),
    ]
    times = (2.0, 1.0, 3.0)
    timed = [
        replace(each, latency=summarize([ms] * 9, warmup_runs=1, threads=1))
        for each, ms in zip(candidates, times, strict=True)
    ]
    slower, fastest, broken = with_causes(timed, meter, load_profile("cpu"))
    narrow = ChannelsOffMultiple(count=1, total=2, multiple=16)
    assert fastest.latency_causes == ()
    assert slower.latency_causes[-1] == narrow
    assert broken.latency_causes == (ProfileFailed(error="InvalidProtobuf"), narrow)
