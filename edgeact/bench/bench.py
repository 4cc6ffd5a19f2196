"""Measure the latency of a bundle on this machine."""

from __future__ import annotations

import datetime
import os
import tempfile
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeact.bench.conditions import notable_changes, take_sensors
from edgeact.bench.protocol import BenchPlan, measure_latency
from edgeact.bench.statistics import summarize
from edgeact.bundle import Bundle, open_bundle
from edgeact.devices import probe_machine
from edgeact.extras import is_installed
from edgeact.progress import TIMED_STEP, OnStep
from edgeact.records import Latency, LatencyRecord
from edgeact.runtime import Check, FallbackWarning, Recognizer, load

__all__ = ["BenchOptions", "bench_bundle"]

_STAGE_RUNS = 30

Frames = NDArray[np.uint8]
Source = Literal["golden", "random"]


@dataclass(frozen=True)
class BenchOptions:
    """The artifact to time, and how; None leaves the choice to the bundle or to the library of the backend."""

    artifact: str | None = None
    backend: str | None = None
    device: str | None = None
    threads: int | None = None
    trust_engines: bool = False
    plan: BenchPlan = field(default_factory=BenchPlan)
    check: Check = "auto"
    """When the artifact is checked before it is timed."""


def bench_bundle(
    path: str | os.PathLike[str], options: BenchOptions | None = None, on_step: OnStep | None = None
) -> LatencyRecord:
    """Measure the latency of an artifact of the bundle at `path` on its golden clip.

    `latency` of the record times calls of the open session with a preprocessed clip; `stages` times
    `Recognizer.predict`, which starts with decoded frames. Without a golden clip, or without OpenCV to decode its
    video, the input is random, and the record says so; without OpenCV there are no stages. `on_step(title, done,
    total)` reports progress, never during a timed run. Raises what `edgeact.runtime.load` raises.
    """
    options = options or BenchOptions()
    report: OnStep = on_step or (lambda _title, _done, _total: None)
    report("opening the bundle", 0, 0)
    bundle = open_bundle(path)
    with _open(bundle, options) as recognizer:
        frames, source = _frames(bundle)
        stages = _time_stages(
            recognizer, frames, options, report
        )  # these runs also warm up the machine for the sensors
        stage_runs = stages["total"].runs if stages else 0
        clip = _network_input(bundle, frames)
        before = take_sensors()
        latency = measure_latency(
            lambda: recognizer.session.run(clip),
            options.plan,
            threads=options.threads,
            on_progress=lambda done, total: report(TIMED_STEP, stage_runs + done, stage_runs + total),
        )
        after = take_sensors()
        choice, session_notes = recognizer.choice, recognizer.session.notes
    fallback = (f"a fallback: {choice.reason}",) if choice.is_fallback else ()
    return LatencyRecord(
        created_utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        bundle_digest=bundle.digest,
        model=bundle.manifest.model.name,
        artifact=choice.artifact,
        precision=choice.precision,
        backend=choice.backend,
        device=choice.device,
        input_shape=bundle.manifest.clip.input_shape,
        machine=probe_machine(),
        latency=latency,
        input_source=source,
        stages=stages,
        sensors_before=before,
        sensors_after=after,
        notes=(*fallback, *session_notes, *notable_changes(before, after)),
    )


def _open(bundle: Bundle, options: BenchOptions) -> Recognizer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)  # the record has a note instead
        return load(
            bundle.path,
            artifact=options.artifact,
            backend=options.backend,
            device=options.device,
            threads=options.threads,
            trust_engines=options.trust_engines,
            check=options.check,
        )


def _frames(bundle: Bundle) -> tuple[Frames, Source]:
    """Return the frames of the golden clip, uint8 RGB (T, H, W, 3), or seeded random frames if there are none."""
    clip, golden = bundle.manifest.clip, bundle.manifest.golden
    if golden is None or not is_installed("cv2"):
        return np.random.default_rng(0).integers(0, 256, (clip.clip_frames, *clip.resize, 3), np.uint8), "random"
    from edgeact.video import read_clips

    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / Path(golden.video).name
        video.write_bytes(bundle.read(golden.video))
        (frames,) = read_clips(video, clip, [0.0])
    return frames, "golden"


def _network_input(bundle: Bundle, frames: Frames) -> NDArray[np.float32]:
    """Return the preprocessed `frames`, or random values of the same variance if OpenCV is not installed."""
    clip = bundle.manifest.clip
    if not is_installed("cv2"):
        return np.random.default_rng(0).standard_normal(clip.input_shape, dtype=np.float32)
    from edgeact.video import preprocess

    return preprocess(frames, clip)


def _time_stages(recognizer: Recognizer, frames: Frames, options: BenchOptions, report: OnStep) -> dict[str, Latency]:
    if not is_installed("cv2"):
        return {}
    plan = replace(options.plan, min_runs=min(options.plan.min_runs, _STAGE_RUNS), min_s=0.0)
    measured = []
    expected = plan.min_runs + options.plan.min_runs
    report(TIMED_STEP, 0, expected)
    timed = measure_latency(
        lambda: measured.append(recognizer.predict(frames).times),
        plan,
        on_progress=lambda done, _total: report(TIMED_STEP, done, expected),
    )
    kept = measured[-timed.runs :]
    samples_ms = {
        "preprocess": [times.preprocess_ms for times in kept],
        "inference": [times.inference_ms for times in kept],
        "total": [times.total_ms for times in kept],
    }
    return {
        name: summarize(samples, warmup_runs=timed.warmup_runs, threads=options.threads)
        for name, samples in samples_ms.items()
    }
