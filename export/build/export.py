"""The exporter's main job: a trained model in, a checked and measured bundle out."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import onnx
import torch
from torch import nn

import edgeact
from edgeact.bundle import Bundle, BundleDraft, Calibration, ModelInfo, vouch, write_bundle
from edgeact.bundle.manifest import Role
from edgeact.calibration.clips import ClipSample
from edgeact.calibration.range_cache import RangeCache
from edgeact.devices import DeviceProfile, is_at_hand, load_profile, probe_machine
from edgeact.errors import CalibrationError, ConversionError, UsageError
from edgeact.export.build.compress import Compressed, Compression, Given, compress
from edgeact.export.build.data import RANDOM_DATA, DataPlan, ExportData, gather
from edgeact.export.build.explain_latency import explained
from edgeact.export.build.golden_clip import GOLDEN_PATH, make_golden
from edgeact.export.build.measure import Meter
from edgeact.export.build.mixed import with_mixed
from edgeact.export.build.select import Terms, Verdicts, judge, refusals
from edgeact.export.build.targets import VARIANTS
from edgeact.export.candidates.candidate import Clips, Sources, Variant
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.cost import Cost, measure_cost
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.qdq import check_clips
from edgeact.export.quantize.tuning import Study
from edgeact.progress import Callbacks
from edgeact.records import Measurements, Precision

__all__ = ["PRECISIONS", "ExportRequest", "export"]

PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "auto": ("int8", "fp16", "fp32"),
    "fp32": ("fp32",),
    "fp16": ("fp16",),
    "mixed": ("int8",),
    "int8": ("int8",),
}
_UNTRAINED_CLIPS = 4  # of parity: random weights decide nothing, and rounding shows on any clip
_RANGE_CLIPS = 24  # FP16 has a margin of four over what they show, and any prefix is even over the classes
_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "tensorrt_rtx_cu13", "numpy", "opencv-python")


@dataclass(frozen=True)
class ExportRequest:
    """What to export for what, and where to."""

    target: str
    out: Path
    source: str | nn.Module | None = None
    """Registry name, 'package.module:factory' or a module; None: the shipped model."""
    load: LoadRequest = field(default_factory=LoadRequest)
    precision: Literal["auto", "fp32", "fp16", "mixed", "int8"] = "auto"
    """'mixed' is INT8 with layers left in float where its accuracy takes that; 'auto' tries it too."""
    data: DataPlan = field(default_factory=lambda: DataPlan(None))
    max_drop_points: float = 1.0
    """Points of top-1 an artifact may lose against PyTorch."""
    threads: int | None = None
    """CPU threads to measure with; None: all."""
    sensitivity: bool = False
    """Whether the damage of INT8 by layer is recorded though INT8 is accurate enough."""
    compression: Compression | None = None
    """What is taken out of the model first; None: nothing."""
    float_modules: tuple[str, ...] = ()
    """Modules of the model whose layers stay in float in INT8, whatever it costs in time."""


@dataclass(frozen=True)
class _Job:
    """What every later stage of one export needs."""

    request: ExportRequest
    profile: DeviceProfile
    compressed: Compressed
    data: ExportData
    cost: Cost

    @property
    def model(self) -> LoadedModel:
        """What is converted, and agreed with."""
        return self.compressed.model


def export(request: ExportRequest, callbacks: Callbacks | None = None) -> Bundle:
    """Convert, check against PyTorch, measure, and write the bundle in one step; an earlier one is kept on failure.

    Raises UsageError, DataError, ModelError, ConversionError and StorageError, each naming expected and got.
    """
    callbacks = callbacks or Callbacks()
    _check_out(request.out)
    if not 0 <= request.max_drop_points < math.inf:
        raise UsageError(f"expected --max-drop from 0, and finite, got {request.max_drop_points:g}")
    profile = load_profile(request.target)
    _check_int8(request, profile)
    callbacks.begin("loading the model")
    model = load_model(request.source, request.load)
    for text in model.notes:
        callbacks.on_note(text)
    callbacks.begin("reading the data")
    data = _read_data(request, model, callbacks)
    with_int8 = "int8" in PRECISIONS[request.precision]
    compressed = compress(
        request.compression,
        Given(model, profile, request.out, with_int8, data.evaluation + data.parity.items),
        callbacks,
    )
    model = compressed.model
    job = _Job(request, profile, compressed, data, measure_cost(model.module, model.clip.input_shape))
    callbacks.begin("converting to ONNX")
    sources = _sources(job, callbacks)
    variants = VARIANTS[profile.family](sources)
    if not variants:
        told = "; ".join(sources.decisions) or "it has no such precision"
        raise ConversionError(f"nothing to make for {profile.title} in {request.precision}: {told}")
    _tell_ranges(sources, variants, callbacks)
    callbacks.begin("agreement with PyTorch")
    judged, verdicts = _judge(job, variants, sources, callbacks)
    callbacks.begin("writing the bundle")
    return _write(job, judged, verdicts, sources)


def _check_int8(request: ExportRequest, profile: DeviceProfile) -> None:
    named = request.precision if request.precision in ("mixed", "int8") else None
    asked = f"--precision {named}" if named else "--sensitivity" if request.sensitivity else None
    if asked and not profile.supports_int8:
        raise UsageError(f"{asked} is about INT8, which {profile.title} does not have; use --precision fp16")
    if asked and "int8" not in PRECISIONS[request.precision]:
        raise UsageError(f"{asked} is about INT8, which --precision {request.precision} leaves out; use auto or mixed")
    if (named == "mixed" or request.sensitivity) and request.data.spec == RANDOM_DATA:
        raise UsageError(f"{asked} needs real clips, random ones show no damage; give --data DATA")


def _check_out(out: Path) -> None:
    if out.suffix != ".edgeact":
        raise UsageError(f"expected --out FILE.edgeact, got '{out}'")
    if out.is_dir():
        raise UsageError(f"expected --out FILE.edgeact, but '{out}' is a folder")
    # Missing folders are made when the bundle is written, so the nearest one that is there decides.
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UsageError(f"cannot write '{out}': expected a folder, but '{folder}' is a file; choose another --out")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write '{out}': folder '{folder}' is not writable; choose another --out")


def _read_data(request: ExportRequest, model: LoadedModel, callbacks: Callbacks) -> ExportData:
    if request.data.spec in (None, RANDOM_DATA):
        callbacks.on_note("no data of your own (--data DATA): clips come from stick-actions, generated on first use")
    data = gather(request.data, model.labels, model.clip, callbacks.on_progress)
    _check_calibration(request, model, data)
    if model.trained:
        if data.note:
            advice = "; give --labels FILE (one label a line, in the order of the model's outputs)"
            callbacks.on_note(data.note + (advice if data.source is None else ""))
        return data
    few = ClipSample(data.parity.inputs[:_UNTRAINED_CLIPS], data.parity.items[:_UNTRAINED_CLIPS], data.parity.skipped)
    return replace(data, parity=few, source=None, note="accuracy not measured: the weights are random")


def _sources(job: _Job, callbacks: Callbacks) -> Sources:
    decisions = [*job.model.notes, *job.compressed.decisions, *([job.data.note] if job.data.note else [])]
    if unreadable := sum(job.data.calibration.skipped.values()):
        decisions.append(f"{unreadable} videos left out of calibration: unreadable")
    clips = _calibration(job, decisions)
    master = to_onnx(job.model.module, job.model.clip)
    return Sources(
        master=master,
        clip=job.model.clip,
        profile=job.profile,
        samples=(job.data.parity if job.data.provenance.synthetic else job.data.calibration).inputs[:_RANGE_CLIPS],
        calibration=None if clips is None else _calibrator(job, master, clips, callbacks),
        precisions=PRECISIONS[job.request.precision],
        on_step=callbacks.begin,
        float_modules=job.request.float_modules,
        study=_study(job, master, callbacks),
        decisions=decisions,
    )


def _calibrator(job: _Job, master: onnx.ModelProto, clips: Clips, callbacks: Callbacks) -> Calibrator:
    on_progress = callbacks.step("activation ranges")
    return Calibrator(master, clips, job.request.data.method, RangeCache(), on_progress)


def _tell_ranges(sources: Sources, variants: Sequence[Variant], callbacks: Callbacks) -> None:
    """Whether more clips would move the INT8 ranges, where there are any."""
    if sources.calibration and any(variant.artifact.precision == "int8" for variant in variants):
        ranges = sources.calibration.ranges
        told = f"INT8 by {ranges.method} ranges: {ranges.summary}"
        sources.decisions.append(told)
        if ranges.unsettled:
            callbacks.on_note(told)


def _study(job: _Job, master: onnx.ModelProto, callbacks: Callbacks) -> Study | None:
    """None where the clips are random: what INT8 does to those says nothing."""
    if job.data.provenance.synthetic:
        return None
    parameters = {tensor.name for tensor in master.graph.initializer}
    return Study(
        max_drop_points=job.request.max_drop_points,
        with_sensitivity=job.request.sensitivity,
        parameters={node.name: name for node in master.graph.node for name in node.input[1:2] if name in parameters},
        on_step=callbacks.on_progress,
    )


def _check_calibration(request: ExportRequest, model: LoadedModel, data: ExportData) -> None:
    """Raise CalibrationError, before anything is converted, where INT8 cannot be calibrated as asked for."""
    if "int8" not in PRECISIONS[request.precision] or not load_profile(request.target).supports_int8:
        return
    if not _is_foreign(request, model, data):
        check_clips(len(data.calibration), data.calibration.classes, accept_poor=request.data.accept_poor)
    elif request.precision != "auto" or request.sensitivity:
        raise CalibrationError(
            f"'{model.name}' was not trained on {data.provenance.dataset}; give clips of its own data with --data DATA"
        )


def _is_foreign(request: ExportRequest, model: LoadedModel, data: ExportData) -> bool:
    """Whether nobody gave data and the project's own does not fit the model."""
    return request.data.spec is None and data.labels != model.labels


def _calibration(job: _Job, decisions: list[str]) -> Clips | None:
    """The clips to calibrate on; none where INT8 is not asked for, or nobody gave data that fits the model."""
    if "int8" not in PRECISIONS[job.request.precision]:
        return None
    if _is_foreign(job.request, job.model, job.data):
        decisions.append("no INT8: no data of the model's own was given to calibrate on (--data DATA)")
        return None
    return job.data.calibration.inputs


def _judge(
    job: _Job, variants: Sequence[Variant], sources: Sources, callbacks: Callbacks
) -> tuple[Sequence[Variant], Verdicts]:
    """All variants, mixed INT8 among them where INT8 takes that, and what becomes of them."""
    # Only a CPU is timed here. A GPU, even one at hand, times the candidates when it loads the bundle: by then its own
    # TensorRT builds the engines, which need not be the one of this Python environment.
    with_latency = job.profile.family == "cpu" and is_at_hand(job.profile)
    unpruned = job.compressed.unpruned
    threads = job.request.threads or torch.get_num_threads()
    meter = Meter(job.model, job.data, threads, callbacks.on_progress, unpruned, job.request.max_drop_points)
    measured = meter.measure(variants, with_latency=False)
    terms = Terms(
        profile=job.profile,
        cost=job.cost,
        reference_bytes=_size_bytes(job.model),
        max_drop_points=job.request.max_drop_points,
        trained=job.model.trained,
        int8_asked=PRECISIONS[job.request.precision] == ("int8",),
        unpruned_bytes=_size_bytes(unpruned) if unpruned else None,
        counts_from_unpruned=job.compressed.counts_from_unpruned,
    )
    if job.request.precision in ("auto", "mixed"):
        variants, measured = with_mixed(variants, measured, sources, meter, terms)
    if with_latency:
        measured = meter.timed(variants, measured, refusals(variants, measured, terms))
        measured = explained(measured, variants, meter, job.profile)
    return variants, judge(variants, measured, terms)


def _size_bytes(model: LoadedModel) -> int:
    return sum(tensor.nbytes for tensor in model.module.state_dict().values())


def _write(job: _Job, variants: Sequence[Variant], verdicts: Verdicts, sources: Sources) -> Bundle:
    by_name = {variant.artifact.name: variant for variant in variants}
    shipped = [by_name[name] for name in verdicts.shipped]
    item = job.data.parity.items[0]
    label = job.model.labels[item.label] if job.data.labels == job.model.labels else None
    golden, video = make_golden(job.model.module, job.model.clip, item, label)
    members: dict[str, tuple[Role, bytes | Path]] = {GOLDEN_PATH: ("golden-video", video)}
    for variant in shipped:
        members.update(variant.members)
    has_int8 = any(variant.artifact.precision == "int8" for variant in shipped)
    draft = BundleDraft(
        model=_model_info(job),
        labels=job.model.labels,
        clip=job.model.clip,
        target=job.profile.id,
        artifacts=tuple(variant.artifact for variant in shipped),
        preferred=verdicts.shipped,
        decide_on_device=not verdicts.timed,
        golden=golden,
        calibration=_provenance(job, sources) if has_int8 else None,
        decisions=tuple(sources.decisions),
        tools=_tools(),
    )
    bundle = write_bundle(job.request.out, draft, members, _measurements(job, verdicts, sources))
    _vouch_engines(bundle)
    return bundle


def _provenance(job: _Job, sources: Sources) -> Calibration:
    if sources.calibration is None:
        return job.data.provenance
    ranges = sources.calibration.ranges
    settling = {"settled_after": ranges.settled_after, "unsettled": len(ranges.unsettled)}
    return job.data.provenance.model_copy(update=settling)


def _model_info(job: _Job) -> ModelInfo:
    return ModelInfo(
        name=job.model.name,
        source=job.model.source,
        parameters=job.cost.parameters,
        macs=job.cost.macs,
        weights_sha256=job.model.weights_sha256,
        options=job.model.options,
        provenance=job.model.provenance,
    )


def _measurements(job: _Job, verdicts: Verdicts, sources: Sources) -> Measurements:
    return Measurements(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=job.model.name,
        target=job.profile.id,
        machine=probe_machine(),
        rows=verdicts.rows,
        sensitivity=tuple(sources.study.sensitivities.values()) if sources.study else (),
    )


def _vouch_engines(bundle: Bundle) -> None:
    """Engines built here by this user may be opened here by this user."""
    for member in bundle.manifest.members:
        if member.role == "engine":
            vouch(member.sha256)


def _tools() -> dict[str, str]:
    versions = {"edgeact": edgeact.__version__}
    for name in _TOOLS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
