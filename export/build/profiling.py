"""Latency of a graph's nodes on this CPU, by the profiler of the library that runs it."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeact.export.candidates.candidate import Candidate
from edgeact.extras import require
from edgeact.precision import Precision

__all__ = ["NodeTime", "median_times", "openvino_request", "profile_nodes"]

Clip = npt.NDArray[np.float32]

_WARMUP_RUNS = 2
_RUNS = 5


@dataclass(frozen=True)
class NodeTime:
    """A node of a compiled graph."""

    name: str
    kind: str
    """Operator by the library's name, e.g. 'Convolution', 'QLinearConv', 'Reorder'."""
    precision: str
    """Precision of the computation: 'i8', 'bf16', 'f32'; empty if the library does not report it."""
    ms: float


def profile_nodes(candidate: Candidate, clip: Clip, threads: int) -> list[NodeTime]:
    """Return the median latencies of the nodes that run; empty if the candidate's backend has no profiler."""
    profiler = _PROFILERS.get(str(candidate.checked_by))
    return profiler(candidate, clip, threads) if profiler else []


def openvino_request(graph: bytes, weights: bytes, precision: Precision, threads: int) -> Any:
    """Return an OpenVINO infer request that records `profiling_info`, configured like the backend's."""
    core = require("openvino", "export").Core()
    settings: dict[str, str | int | bool] = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}
    settings["INFERENCE_NUM_THREADS"] = threads
    if precision == "fp32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    return core.compile_model(core.read_model(graph, weights), "CPU", settings).create_infer_request()


def median_times(infos: Iterable[Any]) -> list[NodeTime]:
    """Return the median latency of each node over OpenVINO's profiles of several runs."""
    times: dict[str, list[float]] = defaultdict(list)
    last: dict[str, Any] = {}
    for info in infos:
        times[info.node_name].append(info.real_time.total_seconds() * 1e3)
        last[info.node_name] = info
    return [
        NodeTime(name, last[name].node_type, last[name].exec_type.rpartition("_")[2].lower(), statistics.median(each))
        for name, each in times.items()
    ]


def _openvino(candidate: Candidate, clip: Clip, threads: int) -> list[NodeTime]:
    graph, weights = candidate.member("graph") or b"", candidate.member("weights") or b""
    request = openvino_request(graph, weights, candidate.precision, threads)
    infos: list[Any] = []
    for run in range(_WARMUP_RUNS + _RUNS):
        request.infer({0: clip})
        infos += request.profiling_info if run >= _WARMUP_RUNS else ()
    return [node for node in median_times(infos) if node.ms > 0]


def _onnxruntime(candidate: Candidate, clip: Clip, threads: int) -> list[NodeTime]:
    library = require("onnxruntime", "export")
    options = library.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads, options.enable_profiling = 3, threads, True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        graph = candidate.member("graph") or b""
        session = library.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for _ in range(_WARMUP_RUNS + _RUNS):
            session.run(None, {session.get_inputs()[0].name: clip})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["name"].removesuffix("_kernel_time"), *_kind(event["args"]))
            times[key].append(event["dur"] / 1e3)
    return [NodeTime(*key, statistics.median(each[_WARMUP_RUNS:])) for key, each in times.items()]


def _kind(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Return operator and precision of an ONNX Runtime event; the precision is the first input's type."""
    inputs = facts.get("input_type_shape") or [{}]
    first = next(iter(inputs[0]), "")
    return str(facts["op_name"]), {"float": "f32", "uint8": "u8", "int8": "i8"}.get(first, first)


_PROFILERS: dict[str, Callable[[Candidate, Clip, int], list[NodeTime]]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}
