"""The words for why an artifact is slower, of profiles made by hand and of real ones."""

from __future__ import annotations

import onnx
import pytest

from edgeact.bench import summarize
from edgeact.devices import load_profile
from edgeact.export.build.data import ExportData
from edgeact.export.build.explain_latency import explained, reasons
from edgeact.export.build.measure import Measured, Meter
from edgeact.export.build.profiling import NodeTime, profile_nodes
from edgeact.export.candidates.candidate import onnx_variant
from edgeact.export.models.loading import LoadedModel
from edgeact.records import Precision
from tests.export.build.test_profiling import CLIP, variant
from tests.export.cpu.native.making import integer

CONV = NodeTime("c", "Convolution", "i8", 6.0)

CASES: dict[str, tuple[Precision, list[NodeTime], list[str]]] = {
    "nothing to say": ("int8", [CONV, NodeTime("p", "MaxPool", "i8", 1.0)], []),
    "no kernel": (
        "int8",
        [CONV, NodeTime("d", "Conv", "f32", 9.0), NodeTime("e", "FusedGemm", "f32", 1.0)],
        ["no INT8 kernel for 1 of 3 convolutions and products, computed in f32"],  # one stays in float by decision
    ),
    "no half precision": (
        "fp16",
        [NodeTime("c", "Convolution", "f32", 6.0)],
        ["no FP16 or BF16 kernel for 1 of 1 convolutions and products, computed in f32"],
    ),
    "float asked for": ("fp32", [NodeTime("c", "Convolution", "f32", 6.0)], ["computed in f32"]),
    "copies": (
        "int8",
        [CONV, NodeTime("s", "VariadicSplit", "i8", 1.0), NodeTime("t", "Concat", "i8", 3.0)],
        ["40% of its time is copies and changes of layout or precision (Concat, VariadicSplit)"],
    ),
    "a Convert is no convolution": (
        "int8",
        [CONV, NodeTime("v", "Convert", "f32", 2.0), NodeTime("w", "Convert", "f32", 2.0)],
        ["40% of its time is copies and changes of layout or precision (Convert)"],
    ),
    "few copies": ("int8", [CONV, NodeTime("s", "Reorder", "i8", 0.1)], []),
    "no profile": ("int8", [], []),
}


@pytest.mark.parametrize("case", CASES)
def test_words(case: str) -> None:
    precision, nodes, expected = CASES[case]
    assert reasons(variant("openvino", precision, {"gate": "it is small"}), nodes) == expected


def test_onnx_runtime_reformats_for_int8() -> None:
    slow = variant("onnxruntime", "int8")
    assert any("changes of layout or precision" in told for told in reasons(slow, profile_nodes(slow, CLIP, 1)))


def test_all_but_the_fastest_are_explained_and_what_cannot_be_profiled_is_told(
    colours: LoadedModel, colour_data: ExportData, colour_master: onnx.ModelProto
) -> None:
    meter = Meter(colours, colour_data, 1, lambda _title, _done, _total: None)
    data = integer(colour_master, meter.data.parity.inputs[:2]).SerializeToString()
    variants = [
        onnx_variant("slower", "int8", data),
        onnx_variant("fastest", "fp32", colour_master.SerializeToString()),
        onnx_variant("broken", "int8", b"no graph"),
    ]
    times = {"fastest": 1.0, "slower": 2.0, "broken": 3.0}
    latencies = {name: summarize([ms] * 9, warmup_runs=1, threads=1) for name, ms in times.items()}
    found = explained(Measured({}, latencies=latencies), variants, meter, load_profile("cpu")).reasons
    narrow = "1 of 2 convolutions have channel counts off the multiple of 16"
    assert set(found) == {"slower", "broken"}
    assert found["slower"].endswith(f", {narrow}")
    assert found["broken"] == f"it could not be profiled (InvalidProtobuf), {narrow}"
