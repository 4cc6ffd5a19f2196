"""What a plan gains in time, layer by layer: measured where the target is at hand, else estimated and called so.

Multiply-accumulates do not tell: a layer of half the channels takes half the time only where its kernels like the
width, and copies, splits and sums take what they take.
"""

from __future__ import annotations

import copy
import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from edgeact.bench import interleave
from edgeact.clip import ClipSpec
from edgeact.devices import DeviceProfile, estimate_latency_ms, is_at_hand
from edgeact.export.build.profiling import median_times, openvino_request
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.cost import Cost
from edgeact.export.models.pruning.plan import PlanLatency, PruningPlan
from edgeact.export.prune.planning import apply_plan
from edgeact.progress import TIMED_STEP, OnStep
from edgeact.records import Precision
from edgeact.runtime import OpenRequest, Session, get_backend

__all__ = ["estimated_latency", "measured_latency", "plan_latency"]

_PROFILED_RUNS = 25
_WARMUP_RUNS = 3
_ROUNDS = 40
_PRECISION: Precision = "fp16"  # of the artifact whose settings are taken: a CPU computes in its own precision


def plan_latency(
    module: nn.Module, plan: PruningPlan, clip: ClipSpec, profile: DeviceProfile, on_step: OnStep | None = None
) -> PlanLatency | None:
    """Before and after `plan` on the target: measured on a CPU at hand, else estimated from the profile's peak rates.

    `module` is only looked at. None where the profile does not have the rates. ConversionError where the model does
    not become a graph; `on_step(title, done, total)` is not called while something is timed.
    """
    if profile.family == "cpu" and is_at_hand(profile):
        return measured_latency(module, plan, clip, on_step)
    return estimated_latency(plan, profile)


def estimated_latency(plan: PruningPlan, profile: DeviceProfile) -> PlanLatency | None:
    """The roofline of every layer and of the whole, in the lowest precision the device has; never measured."""
    precision: Precision = "int8" if profile.supports_int8 else "fp16" if profile.fp16_tflops_dense else "fp32"

    def estimate(macs: tuple[int, int], moved: tuple[int, int]) -> tuple[float, float] | None:
        both = [
            estimate_latency_ms(profile, each, Cost(0, each, elements).bytes_moved(precision), precision)
            for each, elements in zip(macs, moved, strict=True)
        ]
        before, after = both
        return (before.latency_ms, after.latency_ms) if before and after else None

    network = estimate(plan.macs, plan.moved)
    if network is None:
        return None
    layers = {row.layer: pair for row in plan.rows if (pair := estimate(row.macs, row.moved))}
    how = f"{profile.title}, {precision.upper()}, from its peak rates"
    return PlanLatency(layers=layers, rest=None, network=network, measured=False, how=how)


def measured_latency(
    module: nn.Module, plan: PruningPlan, clip: ClipSpec, on_step: OnStep | None = None, threads: int | None = None
) -> PlanLatency:
    """OpenVINO's profile of both float graphs, and both networks timed in turns without profiling.

    `threads` None: as many as PyTorch uses here.
    """
    tell = on_step or (lambda _title, _done, _total: None)
    threads = threads or torch.get_num_threads()
    pruned = copy.deepcopy(module)
    apply_plan(pruned, plan)
    graphs = []
    for number, network in enumerate((module, pruned)):
        tell("graphs to time the plan with", number, 2)
        graphs.append(to_onnx(network, clip))
    clip_array = np.random.default_rng(0).standard_normal(clip.input_shape, dtype=np.float32)
    tell(TIMED_STEP, 0, 2)
    before, after = _profiled(graphs, clip_array, threads)
    tell(TIMED_STEP, 1, 2)
    network_ms = _in_turns(graphs, clip, clip_array, threads)
    tell(TIMED_STEP, 2, 2)
    layers = {name: (ms, after.layers[name]) for name, ms in before.layers.items() if name in after.layers}
    known = [sum(pair[side] for pair in layers.values()) for side in (0, 1)]
    precisions = "/".join(sorted(before.precisions))
    version = get_backend("openvino").version()
    return PlanLatency(
        layers=layers,
        rest=(max(before.total - known[0], 0.0), max(after.total - known[1], 0.0)),
        network=network_ms,
        measured=True,
        how=f"float graph in OpenVINO {version}, {precisions}, threads: {threads}; layers by its profile, all in turns",
    )


@dataclass(frozen=True)
class _Profile:
    layers: Mapping[str, float]
    """Milliseconds of a layer with whatever the library fused into it."""
    total: float
    precisions: frozenset[str]
    """That convolutions and products were computed in."""


def _profiled(graphs: Sequence[onnx.ModelProto], clip: np.ndarray, threads: int) -> list[_Profile]:
    """Medians over several runs, in turns, of what every node of the compiled graphs takes."""
    requests = [openvino_request(graph.SerializeToString(), b"", _PRECISION, threads) for graph in graphs]
    taken: list[list[Any]] = [[] for _ in graphs]
    for run in range(_WARMUP_RUNS + _PROFILED_RUNS):
        for request, infos in zip(requests, taken, strict=True):
            request.infer({0: clip})
            infos += request.profiling_info if run >= _WARMUP_RUNS else ()
    return [_profile(_owners(graph), infos) for graph, infos in zip(graphs, taken, strict=True)]


def _profile(owners: Mapping[str, str], infos: Sequence[Any]) -> _Profile:
    nodes = median_times(infos)
    layers: dict[str, float] = defaultdict(float)
    found: set[str] = set()
    for node in nodes:
        if owner := owners.get(node.name.partition("/")[0]):
            layers[owner] += node.ms
            found.add(node.precision)
    return _Profile(layers, sum(node.ms for node in nodes), frozenset(found - {"undef"}))


def _owners(graph: onnx.ModelProto) -> dict[str, str]:
    """Node name, and what it gives, -> the layer whose weight it multiplies with."""
    owners: dict[str, str] = {}
    for node in graph.graph.node:
        layer, _, kind = (node.input[1] if len(node.input) > 1 else "").rpartition(".")
        if node.op_type in ("Conv", "Gemm", "MatMul") and kind == "weight":
            owners |= dict.fromkeys((node.name, *node.output), layer)
    return owners


def _in_turns(
    graphs: Sequence[onnx.ModelProto], clip: ClipSpec, array: np.ndarray, threads: int
) -> tuple[float, float]:
    sessions = [_session(graph, clip, threads) for graph in graphs]
    try:
        runs: dict[str, Any] = {
            name: functools.partial(session.run, array)
            for name, session in zip(("before", "after"), sessions, strict=True)
        }
        timed = interleave(runs, _ROUNDS)
    finally:
        for session in sessions:
            session.close()
    return timed["before"].p50_ms, timed["after"].p50_ms


def _session(graph: onnx.ModelProto, clip: ClipSpec, threads: int) -> Session:
    classes = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    request = OpenRequest(
        graph=graph.SerializeToString(),
        kind="onnx",
        precision=_PRECISION,
        input_shape=clip.input_shape,
        output_size=classes,
        threads=threads,
        device="CPU",
    )
    return Session(get_backend("openvino"), request)
