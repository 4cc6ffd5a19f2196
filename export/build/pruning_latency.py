"""Latency gain of a pruning plan by layer: measured if the target is at hand, otherwise estimated and marked as such.

Multiply-accumulates do not predict it: a layer with half the channels takes half the time only if its kernels suit the
width, and copies, splits and additions do not shrink with the products.
"""

from __future__ import annotations

import copy
import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from edgeact.bench import interleave
from edgeact.clip import ClipSpec
from edgeact.devices import DeviceProfile, estimate_latency_ms, is_this_machine
from edgeact.export.build.profiling import median_times, openvino_request
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.graph.values import name_of, operand, static_dims
from edgeact.export.models.cost import Cost
from edgeact.export.models.pruning.plan import PlanLatency, PruningPlan
from edgeact.export.prune.planning import apply_plan
from edgeact.precision import Precision
from edgeact.progress import TIMED_STEP, OnStep
from edgeact.runtime import OpenRequest, Session, get_backend

__all__ = ["estimated_latency", "measured_latency", "plan_latency"]

_PROFILED_RUNS = 25
_WARMUP_RUNS = 3
_ROUNDS = 40
_PRECISION: Precision = "fp16"  # of the artifact whose settings are taken: a CPU computes in its own precision


def plan_latency(
    module: nn.Module, plan: PruningPlan, clip: ClipSpec, profile: DeviceProfile, on_step: OnStep | None = None
) -> PlanLatency | None:
    """Return the latency before and after `plan` on the target: measured on a CPU at hand, otherwise estimated.

    `module` is not changed. None if the profile lacks the peak rates. Raises ConversionError if the module cannot be
    converted. `on_step(title, done, total)` is not called while a clip is timed.
    """
    if profile.family == "cpu" and is_this_machine(profile):
        return measured_latency(module, plan, clip, on_step)
    return estimated_latency(plan, profile)


def estimated_latency(plan: PruningPlan, profile: DeviceProfile) -> PlanLatency | None:
    """Return the roofline of each layer and of the network, in the lowest precision of the device; never measured."""
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
    """Return OpenVINO's profile of both float graphs, and the latency of both networks timed in turns.

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
    """Latency of a layer including what the library fused into it, ms."""
    total: float
    precisions: frozenset[str]
    """Precision that convolutions and matrix products were computed in."""


def _profiled(graphs: Sequence[ir.Model], clip: np.ndarray, threads: int) -> list[_Profile]:
    """Return the median latency of each node of the compiled graphs over several runs, taken in turns."""
    requests = [openvino_request(to_bytes(graph), b"", _PRECISION, threads) for graph in graphs]
    taken: list[list[Any]] = [[] for _ in graphs]
    for run in range(_WARMUP_RUNS + _PROFILED_RUNS):
        for request, infos in zip(requests, taken, strict=True):
            request.infer({0: clip})
            infos += request.profiling_info if run >= _WARMUP_RUNS else ()
    return [_profile(_owners(graph), infos) for graph, infos in zip(graphs, taken, strict=True)]


def _profile(owners: Mapping[str, str], infos: Sequence[Any]) -> _Profile:
    nodes = median_times(infos)
    layers: dict[str, float] = defaultdict(float)
    precisions: set[str] = set()
    for node in nodes:
        if owner := owners.get(node.name.partition("/")[0]):
            layers[owner] += node.ms
            precisions.add(node.precision)
    return _Profile(layers, sum(node.ms for node in nodes), frozenset(precisions - {"undef"}))


def _owners(graph: ir.Model) -> dict[str, str]:
    """Return the layer whose weight a node multiplies with, by the names of the node and of its output."""
    owners: dict[str, str] = {}
    for node in graph.graph:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            layer, _, kind = name_of(operand(node, 1)).rpartition(".")
            if kind == "weight":
                owners |= dict.fromkeys((name_of(node), *map(name_of, node.outputs)), layer)
    return owners


def _in_turns(graphs: Sequence[ir.Model], clip: ClipSpec, array: np.ndarray, threads: int) -> tuple[float, float]:
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


def _session(graph: ir.Model, clip: ClipSpec, threads: int) -> Session:
    (_, classes) = static_dims(graph.graph.outputs[0]) or (1, 0)
    request = OpenRequest(
        graph=to_bytes(graph),
        kind="onnx",
        precision=_PRECISION,
        input_shape=clip.input_shape,
        output_size=classes,
        threads=threads,
        device="CPU",
    )
    return Session(get_backend("openvino"), request)
