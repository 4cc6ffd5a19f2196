"""The benchmarks: each takes the workshop and returns its rows."""

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
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.records import Latency
from edgeact.runtime import FallbackWarning, Recognizer, load, softmax
from edgeact.video import read_clips, write_video
from tests.benchmarks.accuracy import accuracy
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
    require_sane,
    torch_subject,
)
from tests.benchmarks.weights import PRUNING
from tests.benchmarks.workshop import Workshop

__all__ = ["BENCHMARKS", "time_in_turns"]

EXPORT_TARGETS = ("cpu", "rtx-4090", "jetson")
_TIMES_FASTER, _TIMES_FASTER_PRUNED, _TIMES_FASTER_THAN_PYTORCH = 1.6, 4.0, 90.0
_MEMORY_SHARE = 0.5
_PRUNED = "pruned bundle"
_PREDICT_OVERHEAD_PERCENT = 3.0
_EXPORT_S, _EXPORT_GB = 90.0, 4.0
_IMPORT_S, _IMPORT_RUNS = 0.3, 7
_DEMO_S = 240.0
_CAMERA_SIZE, _CAMERA_FPS = (240, 320), 25.0  # those of UCF-101
_PREDICT_ROUNDS_EACH = 5  # its two sides differ by a few tenths of a millisecond, so their medians need more runs
_SANITY_CLIPS = 4


def latency(shop: Workshop) -> list[BenchRow]:
    """The CPU bundle and a pruned one against OpenVINO INT8 by NNCF's defaults, and against what else there is."""
    bundle, pruned = shop.export("cpu").path, shop.export("cpu", pruned=True).path
    shop.on_step("quantizing the peer with NNCF's defaults")
    clips = shop.data.parity.inputs[:_SANITY_CLIPS]
    with _load(bundle, shop.settings.threads) as recognizer, _load(pruned, shop.settings.threads) as smaller:
        subjects = [*_peers(shop), bundle_subject(recognizer)]
        agreement = {
            one.name: f"{require_sane(one, subjects[0], clips):.1f} dB against PyTorch" for one in subjects[1:]
        }
        agreement |= {subjects[0].name: "the reference", _PRUNED: "its accuracy is measured by itself"}
        # Another function than PyTorch's unpruned one: its own export has held it against its own module.
        subjects.append(replace(bundle_subject(smaller), name=_PRUNED))
        shop.on_step(f"timing {len(subjects)} subjects in turns")
        taken = time_in_turns(subjects, clips[0], shop.settings.rounds)
    return [
        *_claims(taken, subjects, shop),
        *(_context_row(one, taken[one.name], agreement[one.name]) for one in subjects),
    ]


def _claims(taken: Mapping[str, Latency], subjects: Sequence[Subject], shop: Workshop) -> list[BenchRow]:
    peer, ours, pruned = "OpenVINO INT8 by NNCF defaults", "bundle", subjects[-1].name
    applies = shop.settings.limits_apply
    weights = " ".join(PRUNING) + ("" if shop.settings.trained else "; random weights: accuracy not measured")
    claims = (
        (peer, ours, _TIMES_FASTER, subjects[-2].how),
        (peer, pruned, _TIMES_FASTER_PRUNED, weights),
        (subjects[0].name, pruned, _TIMES_FASTER_THAN_PYTORCH, weights),
    )
    return [_speedup(taken, slow, fast, how).judged(limit, applies=applies) for slow, fast, limit, how in claims]


def _speedup(taken: Mapping[str, Latency], slow: str, fast: str, how: str) -> BenchRow:
    """How many times faster, median over median, with the bounds of a block bootstrap."""
    ours, theirs = taken[fast], taken[slow]
    return BenchRow(
        name=f"{fast}: times faster than {slow}",
        value=theirs.p50_ms / ours.p50_ms,
        unit="x",
        comparison=">=",
        interval=median_ratio(ours.samples_ms, theirs.samples_ms),
        how=f"{ours.p50_ms:.2f} ms against {theirs.p50_ms:.2f} ms, medians of {ours.runs} runs in turns; {how}",
    )


def _peers(shop: Workshop) -> list[Subject]:
    """PyTorch first: it is the reference. All others get the graph as PyTorch exports it, without any rewrite."""
    import openvino

    threads = shop.settings.threads
    graph = to_onnx(shop.model.module, shop.model.clip).SerializeToString()
    model = openvino.Core().read_model(graph)
    return [
        torch_subject(shop.model.module, threads),
        onnxruntime_subject(graph, threads),
        openvino_subject("OpenVINO FP32", "fp32", model, threads),
        openvino_subject("OpenVINO of the FP32 graph, default precision", "bf16", model, threads),
        nncf_default_int8(graph, shop.data.calibration.inputs, threads),
    ]


def time_in_turns(subjects: Sequence[Subject], clip: Array, rounds: int) -> dict[str, Latency]:
    """Time all subjects in turns; each runs once untimed before its timed run.

    Without that, the threads of the library before (they spin for a while) and cold caches would be charged to it.
    """
    runs: dict[str, Callable[[], object]] = {}
    for subject in subjects:
        runs[f"{subject.name}, settling"] = lambda run=subject.run: run(clip)  # type: ignore[misc]
        runs[subject.name] = lambda run=subject.run: run(clip)  # type: ignore[misc]
    taken = interleave(runs, rounds)
    return {subject.name: taken[subject.name] for subject in subjects}


def predict(shop: Workshop) -> list[BenchRow]:
    """What `Recognizer.predict` adds to decoding a clip, resizing its frames and calling the backend."""
    path = shop.export("cpu").path
    shop.on_step("timing predict against the raw backend")
    with _load(path, shop.settings.threads) as recognizer:
        clip = recognizer.clip
        video = _camera_video(shop.folder / "camera.mp4", clip)
        frames = next(read_clips(video, clip, (0.0,)))
        raw = recognizer.session._inner  # one more would lie elsewhere in memory, and differ by a percent
        assert raw is not None
        array = _preprocessed(recognizer, frames)
        size = clip.resize[::-1]

        def bare() -> Array:
            for frame in next(read_clips(video, clip, (0.0,))):
                cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
            return raw.run(array)

        if not np.allclose(softmax(bare()[0]), recognizer.predict(frames).scores, atol=1e-5):
            raise ParityError("the raw backend and predict give other scores; they would be two models")
        runs = {"bare": bare, "predict": lambda: recognizer.predict(next(read_clips(video, clip, (0.0,))))}
        taken = interleave(runs, shop.settings.rounds * _PREDICT_ROUNDS_EACH)
    bare_ms, ours = taken["bare"], taken["predict"]
    ratio = _ratio("predict over backend call + decoding + resizing", bare_ms, ours, "")
    percent = BenchRow(
        name=ratio.name,
        value=100 * (ratio.value - 1),
        unit="%",
        how=f"{ours.p50_ms:.2f} ms against {bare_ms.p50_ms:.2f} ms, medians of {ours.runs} runs in turns; "
        f"both decode {clip.duration_s:.2f} s of {_CAMERA_SIZE[1]}x{_CAMERA_SIZE[0]} at {_CAMERA_FPS:.0f} fps",
    )
    return [percent.judged(_PREDICT_OVERHEAD_PERCENT, applies=shop.settings.limits_apply)]


def _camera_video(path: Path, clip: ClipSpec) -> Path:
    """An mp4 of one clip's length at a camera's rate, of which the clip takes every so-many-th frame."""
    count = round(clip.duration_s * _CAMERA_FPS)
    frames = np.random.default_rng(0).integers(0, 256, (count, *_CAMERA_SIZE, 3), np.uint8)
    write_video(path, [cv2.GaussianBlur(frame, (0, 0), 8) for frame in frames], _CAMERA_FPS)
    return path


def export(shop: Workshop) -> list[BenchRow]:
    """Wall time and peak memory of a whole export: calibration, checks, engines."""
    rows = []
    for target in EXPORT_TARGETS:
        made = shop.export(target, trained=False)  # accuracy on videos takes as long as whoever asks for them likes
        how = f"a fresh process on {shop.settings.threads} cores, data rendered before: {made.command}"
        seconds = BenchRow(name=f"export for {target}", value=made.child.wall_s, unit="s", how=how)
        memory = BenchRow(
            name=f"peak memory of the export for {target}",
            value=made.child.peak_bytes / 1e9,
            unit="GB",
            how="largest resident set of that process, as the kernel counts it",
        )
        applies = shop.settings.limits_apply
        rows += [seconds.judged(_EXPORT_S, applies=applies), memory.judged(_EXPORT_GB, applies=applies)]
    return rows


def import_time(shop: Workshop) -> list[BenchRow]:
    """`import edgeact.runtime` in fresh processes, in turns with the two packages it cannot do without."""
    shop.on_step("timing imports")
    what = ("import edgeact.runtime", "import numpy; from pydantic import BaseModel")
    seconds: dict[str, list[float]] = {statement: [] for statement in what}
    for _ in range(_IMPORT_RUNS + 1):  # the first one only fills the disk cache
        for statement in what:
            program = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
            child = run_child([sys.executable, "-c", program], cores=shop.settings.threads)
            seconds[statement].append(float(child.output))
    ours, base = (statistics.median(seconds[statement][1:]) for statement in what)
    how = f"median of {_IMPORT_RUNS} fresh processes, the interpreter's own start left out"
    row = BenchRow(name=what[0], value=ours, unit="s", how=how)
    return [
        row.judged(_IMPORT_S, applies=True),  # it does not depend on the model's size
        BenchRow(name="of it numpy and pydantic", value=100 * base / ours, unit="%", how=f"{base:.3f} s by themselves"),
    ]


def memory(shop: Workshop) -> list[BenchRow]:
    """Peak memory of a process that recognises by the bundle, and of one that does it by PyTorch."""
    bundle = shop.export("cpu").path
    shop.on_step("measuring memory")
    child = ("-m", "tests.benchmarks.memory_child")
    threads, width = str(shop.settings.threads), str(shop.settings.width)
    ours = run_child([sys.executable, *child, "bundle", bundle, threads], cores=shop.settings.threads)
    theirs = run_child([sys.executable, *child, "torch", width, threads], cores=shop.settings.threads)
    share = BenchRow(
        name="peak memory, CPU bundle / PyTorch",
        value=ours.peak_bytes / theirs.peak_bytes,
        unit="",
        how="of the two below",
    )
    return [
        share.judged(_MEMORY_SHARE, applies=shop.settings.limits_apply),
        *(
            BenchRow(name=f"peak memory, {name}", value=run.peak_bytes / 1e6, unit="MB", how=how)
            for name, run, how in (
                ("CPU bundle", ours, "a fresh process: load, 20 predictions"),
                ("PyTorch", theirs, "a fresh process: the model, 20 forward passes in inference mode"),
            )
        ),
    ]


def demo(shop: Workshop) -> list[BenchRow]:
    """`make demo` where the virtual environment is there already."""
    if not (ROOT / "Makefile").is_file() or not (ROOT / ".venv").is_dir():
        raise EdgeactError("expected a Makefile and an installed .venv; run 'make demo' once by hand before timing it")
    shop.on_step("make demo")
    child = run_child(["make", "demo"], cores=shop.settings.threads)
    row = BenchRow(name="make demo", value=child.wall_s, unit="s", how="one call with everything installed before")
    return [row.judged(_DEMO_S, applies=True)]


BENCHMARKS: dict[str, Callable[[Workshop], list[BenchRow]]] = {
    "import": import_time,
    "export": export,
    "latency": latency,
    "rate": rate,
    "predict": predict,
    "memory": memory,
    "accuracy": accuracy,
    "demo": demo,
}
"""In the order they are taken; 'demo' only where it is asked for."""


def _load(path: object, threads: int) -> Recognizer:
    """The bundle as an app opens it; what it could only run as a fallback must not be timed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        return load(str(path), threads=threads)


def _preprocessed(recognizer: Recognizer, frames: np.ndarray) -> Array:
    from edgeact.video import preprocess

    return preprocess(frames, recognizer.clip)


def _ratio(name: str, baseline: Latency, candidate: Latency, how: str) -> BenchRow:
    """Median over median, with the bounds of a block bootstrap."""
    bounds = median_ratio(baseline.samples_ms, candidate.samples_ms)
    return BenchRow(name=name, value=candidate.p50_ms / baseline.p50_ms, unit="", interval=bounds, how=how)


def _context_row(subject: Subject, taken: Latency, agreement: str) -> BenchRow:
    return BenchRow(
        name=f"latency, {subject.name}",
        value=taken.p50_ms,
        unit="ms",
        interval=taken.p50_interval,
        how=f"{subject.how}; {agreement}",
    )
