"""Networks of depthwise and grouped convolutions: the native engine in INT8 against the fastest peer that runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
import openvino

from edgeact.devices import load_profile
from edgeact.errors import EdgeactError
from edgeact.export.cpu.native.compiler import compile_model
from edgeact.export.cpu.native.refusals import NotLoweredError
from edgeact.export.graph.passes.apply import REWRITES, apply_rewrites
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import at_opset, to_onnx
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.models.synthetic import calibrate_batch_norm, synthetic_clips
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.exclusions import target_exclusions
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq import quantize
from edgeact.export.quantize.qdq_placement import place_qdq
from edgeact.runtime.native.engine import Engine
from edgeact.runtime.native.library import supported_isas
from edgeact.runtime.native.reading import read_program
from tests.benchmarks.peers import mnn_subject, ncnn_subject
from tests.benchmarks.records import BenchRow
from tests.benchmarks.subjects import (
    Array,
    Subject,
    nncf_default_int8,
    nncf_defaults,
    onnxruntime_subject,
    openvino_subject,
    require_agreement,
    torch_subject,
)
from tests.benchmarks.timing import speedup, time_in_turns
from tests.benchmarks.workspace import Workspace
from tests.benchmarks.x3d import x3d_s

__all__ = ["NETWORKS", "native_subject", "networks"]

_NATIVE = "native engine"
_LIMIT = 1.5
_CLIPS = 8
_ROUNDS = 10
_SHOWN = 300
_FRAMES, _SIZE = 4, 32  # of the narrow networks


def _x3d(full: bool) -> LoadedModel:
    frames, size = (13, 160) if full else (_FRAMES, _SIZE)
    model = load_model(x3d_s() if full else x3d_s(8, 5), LoadRequest(clip_frames=frames, size=size))
    calibrate_batch_norm(model.module, model.clip)
    return model


def _resnext(full: bool) -> LoadedModel:
    narrow = LoadRequest(random_weights=True, width=8, clip_frames=_FRAMES, size=_SIZE)
    return load_model("resnext3d-101", LoadRequest(random_weights=True) if full else narrow)


NETWORKS: Mapping[str, Callable[[bool], LoadedModel]] = MappingProxyType({"X3D-S": _x3d, "ResNeXt-101": _resnext})
"""Functions that build a network with random weights, at the paper's size if True, else a narrow network."""


def networks(workspace: Workspace) -> list[BenchRow]:
    """Compare the native engine with the fastest of OpenVINO FP32 and INT8, ONNX Runtime, MNN and ncnn."""
    rows = []
    for name, build in NETWORKS.items():
        workspace.on_step(f"timing {name}")
        folder = workspace.folder / name
        folder.mkdir()
        rows += _rows(workspace, name, build(workspace.settings.limits_apply), folder)
    return rows


def _rows(workspace: Workspace, name: str, model: LoadedModel, folder: Path) -> list[BenchRow]:
    clips = synthetic_clips(model.clip, _CLIPS)
    subjects = _subjects(workspace, name, model, clips, folder)
    reference = torch_subject(model.module, workspace.settings.threads)
    agreement = {each.name: require_agreement(each, reference, clips[:1]) for each in subjects}
    latencies = time_in_turns(subjects, clips[0], min(_ROUNDS, workspace.settings.rounds))
    rows = [
        BenchRow(
            name=f"latency of {name}, {each.name}",
            value=latencies[each.name].p50_ms,
            unit="ms",
            interval=latencies[each.name].p50_interval,
            how=f"{each.how}; {agreement[each.name]:.1f} dB against PyTorch",
        )
        for each in subjects
    ]
    if _NATIVE not in latencies:
        return rows
    best = min((each for each in latencies if each != _NATIVE), key=lambda each: latencies[each].p50_ms)
    samples = (latencies[_NATIVE].samples_ms, latencies[best].samples_ms)
    size = "x".join(map(str, model.clip.input_shape[2:]))
    row = speedup(f"{name}: times faster than the fastest peer", *samples, f"{best}; {size}, random weights")
    return [row.judged(_LIMIT, applies=workspace.settings.limits_apply), *rows]


def _subjects(workspace: Workspace, name: str, model: LoadedModel, clips: list[Array], folder: Path) -> list[Subject]:
    """Return the native engine, if it runs the network, and all peers that do; the report names the others."""
    threads, master = workspace.settings.threads, to_onnx(model.module, model.clip)
    graph = to_bytes(master)
    subjects = [
        openvino_subject("OpenVINO FP32", "fp32", openvino.Core().read_model(graph), threads),
        nncf_default_int8(nncf_defaults(graph, clips), clips, threads),
        onnxruntime_subject(graph, threads),
    ]
    try:
        subjects.insert(0, native_subject(master, clips, threads))
    except NotLoweredError as error:
        workspace.leave_out(f"{name} by the native engine", str(error))
    makers: dict[str, Callable[[], Subject]] = {
        "MNN": partial(mnn_subject, graph, folder, threads),
        "ncnn": partial(ncnn_subject, model.module, clips[0], folder, threads),
    }
    reference = torch_subject(model.module, threads)
    for peer, make in makers.items():
        try:
            subject = make()
            require_agreement(subject, reference, clips[:1])
        except Exception as error:  # of any library, and of those that are not installed
            text = " ".join(str(error).split())[:_SHOWN]
            workspace.leave_out(f"{name} by {peer}", f"{type(error).__name__}: {text}")
        else:
            subjects.append(subject)
    return subjects


def native_subject(master: ir.Model, clips: list[Array], threads: int) -> Subject:
    """Return the graph in INT8 by the native engine, by the exporter's rewrites, ranges and Q/DQ placement.

    Raises NotLoweredError, which names the layer, if the engine cannot run the graph.
    """
    if not supported_isas():
        raise EdgeactError("native: expected a processor that the engine supports, got another")
    graph, _ = apply_rewrites(at_opset(master, 17), REWRITES)
    calibrator = Calibrator(master, clips)
    excluded = target_exclusions(graph, load_profile("cpu"))
    quantized = quantize(graph, calibrator.ranges_for(graph, excluded), excluded)
    placed = place_qdq(quantized, calibrator.ranges, lambda tensors: calibrator.observed(graph, tensors))
    program, tensors = compile_model(fold_weights(placed))
    isa = supported_isas()[0]
    engine = Engine(*read_program(program.to_json(), tensors), threads, isa)

    def run(clip: Array) -> Array:
        return engine.run(np.ascontiguousarray(clip))[None]

    return Subject(_NATIVE, "int8", run, f"{isa}, {threads} threads, the engine's own call")
