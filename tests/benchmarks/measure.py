"""The benchmarks: each returns the rows of its measurements."""

from __future__ import annotations

import statistics
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edgeact.bench import interleave, median_ratio
from edgeact.clip import ClipSpec
from edgeact.errors import EdgeactError, ParityError
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.records import Latency
from edgeact.runtime import FallbackWarning, Recognizer, load, softmax
from edgeact.video import read_clips, write_video
from tests.benchmarks.accuracy import accuracy
from tests.benchmarks.cores import cores
from tests.benchmarks.family import limits_of
from tests.benchmarks.isa import isa
from tests.benchmarks.kernel import kernel
from tests.benchmarks.networks import networks
from tests.benchmarks.peers import peers
from tests.benchmarks.processes import ROOT, run_child
from tests.benchmarks.rate import rate
from tests.benchmarks.records import BenchRow
from tests.benchmarks.subjects import (
    Array,
    Subject,
    bundle_subject,
    nncf_default_int8,
    onnxruntime_subject,
    openvino_subject,
    require_agreement,
    torch_subject,
)
from tests.benchmarks.timing import speedup, time_in_turns
from tests.benchmarks.weights import PRUNING
from tests.benchmarks.workspace import Workspace

__all__ = ["BENCHMARKS"]

_MEMORY_SHARE = 0.5
_PRUNED = "pruned bundle"
_PREDICT_OVERHEAD_PERCENT = 3.0
_EXPORT_S, _EXPORT_GB = {"cpu": 60.0, "rtx-4090": 90.0, "jetson": 90.0}, {"cpu": 2.5, "rtx-4090": 4.0, "jetson": 4.0}
_EXPORT_SHIPPED_S = 25.0
_IMPORT_S, _IMPORT_RUNS = 0.3, 7
_DEMO_S = 240.0
_CAMERA_SIZE, _CAMERA_FPS = (240, 320), 25.0  # as in UCF-101
_PREDICT_ROUNDS_FACTOR = 5  # the two medians differ by a few tenths of a millisecond, and need more runs
_SANITY_CLIPS = 4


def latency(workspace: Workspace) -> list[BenchRow]:
    """Compare the CPU bundle and a pruned bundle with OpenVINO INT8 by NNCF defaults and with other runtimes."""
    bundle, pruned = workspace.export("cpu").path, workspace.export("cpu", pruned=True).path
    workspace.on_step("quantizing the peer with NNCF's defaults")
    clips = workspace.data.parity.inputs[:_SANITY_CLIPS]
    with _load(bundle, workspace.settings.threads) as recognizer, _load(pruned, workspace.settings.threads) as smaller:
        subjects = [*_peers(workspace), bundle_subject(recognizer)]
        agreement = {
            peer.name: f"{require_agreement(peer, subjects[0], clips):.1f} dB against PyTorch" for peer in subjects[1:]
        }
        agreement |= {subjects[0].name: "the reference", _PRUNED: "its accuracy is measured by itself"}
        # The pruned function differs from that of the unpruned module; its export checked its parity.
        subjects.append(replace(bundle_subject(smaller), name=_PRUNED))
        workspace.on_step(f"timing {len(subjects)} subjects in turns")
        latencies = time_in_turns(subjects, clips[0], workspace.settings.rounds)
    return [
        *_claims(latencies, subjects, workspace),
        *(_context_row(subject, latencies[subject.name], agreement[subject.name]) for subject in subjects),
    ]


def _claims(latencies: Mapping[str, Latency], subjects: Sequence[Subject], workspace: Workspace) -> list[BenchRow]:
    peer, ours, pruned = "OpenVINO INT8 by NNCF defaults", "bundle", subjects[-1].name
    applies = workspace.settings.limits_apply
    weights = " ".join(PRUNING) + ("" if workspace.settings.trained else "; random weights: accuracy not measured")
    limits = limits_of(workspace.machine)
    claims = (
        (peer, ours, limits.full, subjects[-2].how),
        (peer, pruned, limits.pruned, weights),
        (subjects[0].name, pruned, limits.torch, weights),
    )
    rows = []
    for slow, fast, limit, how in claims:
        row = speedup(f"{fast}: times faster than {slow}", latencies[fast].samples_ms, latencies[slow].samples_ms, how)
        rows.append(row if limit is None else row.judged(limit, applies=applies))
    return rows


def _peers(workspace: Workspace) -> list[Subject]:
    """Return PyTorch, the reference, and the peers, which run the graph as PyTorch exports it, without rewrites."""
    import openvino

    threads = workspace.settings.threads
    graph = to_bytes(to_onnx(workspace.model.module, workspace.model.clip))
    model = openvino.Core().read_model(graph)
    return [
        torch_subject(workspace.model.module, threads),
        onnxruntime_subject(graph, threads),
        openvino_subject("OpenVINO FP32", "fp32", model, threads),
        openvino_subject("OpenVINO of the FP32 graph, default precision", "bf16", model, threads),
        nncf_default_int8(workspace.peer, workspace.data.calibration.inputs, threads),
    ]


def predict(workspace: Workspace) -> list[BenchRow]:
    """Measure the overhead of `Recognizer.predict` over decoding, resizing and the call of the backend."""
    path = workspace.export("cpu").path
    workspace.on_step("timing predict against the raw backend")
    with _load(path, workspace.settings.threads) as recognizer:
        clip = recognizer.clip
        video = _camera_video(workspace.folder / "camera.mp4", clip)
        frames = next(read_clips(video, clip, (0.0,)))
        raw = recognizer.session._inner  # another session has other memory addresses, and differs by a percent
        assert raw is not None
        array = _preprocessed(recognizer, frames)
        size = clip.resize[::-1]

        def bare() -> Array:
            for frame in next(read_clips(video, clip, (0.0,))):
                cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
            return raw.run(array)

        if not np.allclose(softmax(bare()[0]), recognizer.predict(frames).scores, atol=1e-5):
            raise ParityError(
                "expected equal scores of the raw backend and of predict, got others; they run two models"
            )
        runs = {"bare": bare, "predict": lambda: recognizer.predict(next(read_clips(video, clip, (0.0,))))}
        latencies = interleave(runs, workspace.settings.rounds * _PREDICT_ROUNDS_FACTOR)
    bare_ms, ours = latencies["bare"], latencies["predict"]
    ratio = _ratio("predict over backend call + decoding + resizing", bare_ms, ours, "")
    percent = BenchRow(
        name=ratio.name,
        value=100 * (ratio.value - 1),
        unit="%",
        how=f"{ours.p50_ms:.2f} ms against {bare_ms.p50_ms:.2f} ms, medians of {ours.runs} runs in turns; "
        f"both decode {clip.duration_s:.2f} s of {_CAMERA_SIZE[1]}x{_CAMERA_SIZE[0]} at {_CAMERA_FPS:.0f} fps",
    )
    return [percent.judged(_PREDICT_OVERHEAD_PERCENT, applies=workspace.settings.limits_apply)]


def _camera_video(path: Path, clip: ClipSpec) -> Path:
    """Write an mp4 of one clip's length at the frame rate of a camera, from which the clip is sampled."""
    count = round(clip.duration_s * _CAMERA_FPS)
    frames = np.random.default_rng(0).integers(0, 256, (count, *_CAMERA_SIZE, 3), np.uint8)
    write_video(path, [cv2.GaussianBlur(frame, (0, 0), 8) for frame in frames], _CAMERA_FPS)
    return path


def export(workspace: Workspace) -> list[BenchRow]:
    """Measure wall time and peak memory of a whole export: calibration, checks, engines."""
    rows = []
    for target in _EXPORT_S:
        exported = workspace.export(target, trained=False)  # the time for accuracy depends on the number of videos only
        how = f"a fresh process on {workspace.settings.threads} cores, data rendered before: {exported.command}"
        seconds = BenchRow(name=f"export for {target}", value=exported.child.wall_s, unit="s", how=how)
        memory = BenchRow(
            name=f"peak memory of the export for {target}",
            value=exported.child.peak_bytes / 1e9,
            unit="GB",
            how="largest resident set of that process, as the kernel counts it",
        )
        applies = workspace.settings.limits_apply
        rows += [seconds.judged(_EXPORT_S[target], applies=applies), memory.judged(_EXPORT_GB[target], applies=applies)]
    shipped = workspace.export_shipped()
    how = f"a fresh process on {workspace.settings.threads} cores, data rendered before: {shipped.command}"
    row = BenchRow(name="export of the shipped model for cpu", value=shipped.child.wall_s, unit="s", how=how)
    return [*rows, row.judged(_EXPORT_SHIPPED_S, applies=workspace.settings.limits_apply)]


def import_time(workspace: Workspace) -> list[BenchRow]:
    """Time `import edgeact.runtime` in fresh processes, in turns with its two required packages."""
    workspace.on_step("timing imports")
    statements = ("import edgeact.runtime", "import numpy; from pydantic import BaseModel")
    seconds: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(_IMPORT_RUNS + 1):  # the first run only fills the disk cache
        for statement in statements:
            program = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
            child = run_child([sys.executable, "-c", program], cores=workspace.settings.threads)
            seconds[statement].append(float(child.output))
    ours, base = (statistics.median(seconds[statement][1:]) for statement in statements)
    how = f"median of {_IMPORT_RUNS} fresh processes, the interpreter's own start left out"
    row = BenchRow(name=statements[0], value=ours, unit="s", how=how)
    return [
        row.judged(_IMPORT_S, applies=True),  # independent of the size of the model
        BenchRow(name="of it numpy and pydantic", value=100 * base / ours, unit="%", how=f"{base:.3f} s by themselves"),
    ]


def memory(workspace: Workspace) -> list[BenchRow]:
    """Measure the peak memory of a process that runs the bundle, and of a process that runs PyTorch."""
    bundle = workspace.export("cpu").path
    workspace.on_step("measuring memory")
    child = ("-m", "tests.benchmarks.memory_child")
    threads, width = str(workspace.settings.threads), str(workspace.settings.width)
    ours = run_child([sys.executable, *child, "bundle", bundle, threads], cores=workspace.settings.threads)
    theirs = run_child([sys.executable, *child, "torch", width, threads], cores=workspace.settings.threads)
    share = BenchRow(
        name="peak memory, CPU bundle / PyTorch",
        value=ours.peak_bytes / theirs.peak_bytes,
        unit="",
        how="of the two below",
    )
    return [
        share.judged(_MEMORY_SHARE, applies=workspace.settings.limits_apply),
        *(
            BenchRow(name=f"peak memory, {name}", value=run.peak_bytes / 1e6, unit="MB", how=how)
            for name, run, how in (
                ("CPU bundle", ours, "a fresh process: load, 20 predictions"),
                ("PyTorch", theirs, "a fresh process: the model, 20 forward passes in inference mode"),
            )
        ),
    ]


def demo(workspace: Workspace) -> list[BenchRow]:
    """Time `make demo` with an existing virtual environment."""
    if not (ROOT / "Makefile").is_file() or not (ROOT / ".venv").is_dir():
        raise EdgeactError(
            "make demo: expected a Makefile and an installed .venv; run 'make demo' once before timing it"
        )
    workspace.on_step("make demo")
    child = run_child(["make", "demo"], cores=workspace.settings.threads)
    row = BenchRow(name="make demo", value=child.wall_s, unit="s", how="one call with everything installed before")
    return [row.judged(_DEMO_S, applies=True)]


BENCHMARKS: dict[str, Callable[[Workspace], list[BenchRow]]] = {
    "import": import_time,
    "export": export,
    "latency": latency,
    "isa": isa,
    "kernel": kernel,
    "cores": cores,
    "peers": peers,
    "networks": networks,
    "rate": rate,
    "predict": predict,
    "memory": memory,
    "accuracy": accuracy,
    "demo": demo,
}
"""Benchmarks by name, in the order of their execution; 'demo' runs on request only."""


def _load(path: object, threads: int) -> Recognizer:
    """Open the bundle as an application does; a fallback is an error, because it must not be timed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        return load(str(path), threads=threads)


def _preprocessed(recognizer: Recognizer, frames: np.ndarray) -> Array:
    from edgeact.video import preprocess

    return preprocess(frames, recognizer.clip)


def _ratio(name: str, baseline: Latency, candidate: Latency, how: str) -> BenchRow:
    """Return the ratio of medians, with the bounds of a block bootstrap."""
    bounds = median_ratio(baseline.samples_ms, candidate.samples_ms)
    return BenchRow(name=name, value=candidate.p50_ms / baseline.p50_ms, unit="", interval=bounds, how=how)


def _context_row(subject: Subject, latency: Latency, agreement: str) -> BenchRow:
    return BenchRow(
        name=f"latency, {subject.name}",
        value=latency.p50_ms,
        unit="ms",
        interval=latency.p50_interval,
        how=f"{subject.how}; {agreement}",
    )
