"""The exporter's main job: a trained model in, a checked and measured bundle out."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import torch
from torch import nn

import edgeact
from edgeact.bundle import Bundle, BundleDraft, ModelInfo, vouch, write_bundle
from edgeact.bundle.manifest import Role
from edgeact.devices import DeviceProfile, is_at_hand, load_profile, probe_machine
from edgeact.errors import CalibrationError, ConversionError, UsageError
from edgeact.export.convert.onnx import to_onnx
from edgeact.export.data import DataPlan, ExportData, gather
from edgeact.export.golden import GOLDEN_PATH, make_golden
from edgeact.export.judge import Judge, Verdicts
from edgeact.export.models.cost import Cost, measure_cost
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.targets import VARIANTS
from edgeact.export.targets.variant import Clips, Sources, Variant
from edgeact.records import Measurements, Precision

__all__ = ["ExportRequest", "Reporter", "export"]

_PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "auto": ("int8", "fp16", "fp32"),
    "fp32": ("fp32",),
    "fp16": ("fp16",),
    "int8": ("int8",),
}
_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "tensorrt_rtx_cu13", "numpy", "opencv-python")


@dataclass(frozen=True)
class ExportRequest:
    """What to export for what, and where to."""

    target: str
    out: Path
    source: str | nn.Module | None = None
    """Registry name, 'package.module:factory' or a module; None: the shipped model."""
    load: LoadRequest = field(default_factory=LoadRequest)
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    data: DataPlan = field(default_factory=lambda: DataPlan(None))
    max_drop_points: float = 1.0
    """Points of top-1 an artifact may lose against PyTorch."""
    threads: int | None = None
    """CPU threads to measure with; None: all."""


@dataclass(frozen=True)
class Reporter:
    """Callbacks for progress; either may be left out."""

    on_step: Callable[[str], None] = lambda _title: None
    on_progress: Callable[[str, int, int], None] = lambda _title, _done, _total: None


def export(request: ExportRequest, reporter: Reporter | None = None) -> Bundle:
    """Convert, check against PyTorch, measure, and write the bundle in one step; an earlier one is kept on failure.

    Raises UsageError, DataError, ModelError, ConversionError and StorageError, each naming expected and got.
    """
    report = reporter or Reporter()
    if request.out.suffix != ".edgeact":
        raise UsageError(f"expected --out FILE.edgeact, got '{request.out}'")
    profile = load_profile(request.target)
    report.on_step("loading the model")
    model = load_model(request.source, request.load)
    report.on_step("reading the data")
    data = gather(request.data, model.labels, model.clip)
    report.on_step("converting to ONNX")
    decisions = _first_decisions(model, data)
    calibration = _calibration(request, model, data, decisions)
    sources = Sources(
        to_onnx(model.module, model.clip),
        model.clip,
        profile,
        calibration,
        _PRECISIONS[request.precision],
        report.on_step,
        decisions,
    )
    variants = VARIANTS[profile.family](sources)
    if not variants:
        raise ConversionError(
            f"nothing to make for {profile.title} in {request.precision}: {'; '.join(decisions) or 'no such precision'}"
        )
    cost = measure_cost(model.module, model.clip.input_shape)
    judge = Judge(
        model,
        data if model.trained else replace(data, source=None),
        profile,
        is_at_hand(profile),
        cost,
        request.max_drop_points,
        request.threads or torch.get_num_threads(),
        report.on_progress,
    )
    verdicts = judge.rows(variants)
    report.on_step("writing the bundle")
    kept = _kept(variants, verdicts, judge.at_hand)
    draft, members = _draft(sources, model, data, cost, kept)
    bundle = write_bundle(request.out, draft, members, _measurements(model, profile, verdicts))
    _vouch_engines(bundle)
    return bundle


def _calibration(request: ExportRequest, model: LoadedModel, data: ExportData, decisions: list[str]) -> Clips | None:
    """The clips to calibrate on; none where INT8 is not asked for, or nobody gave data that fits the model."""
    if request.precision in ("fp32", "fp16"):
        return None
    if request.data.spec is None and data.note is not None:
        if request.precision == "int8":
            raise CalibrationError(
                f"'{model.name}' was not trained on {data.provenance.dataset}; "
                "give clips of its own data with --calib DATA"
            )
        decisions.append("no INT8: no data of the model's own was given to calibrate on (--calib DATA)")
        return None
    return data.calibration.inputs


def _first_decisions(model: LoadedModel, data: ExportData) -> list[str]:
    if not model.trained:
        return ["accuracy not measured: the weights are random"]
    return [data.note] if data.note else []


def _kept(variants: Sequence[Variant], verdicts: Verdicts, at_hand: bool) -> list[Variant]:
    """The variants that go in, best first: at hand the winner and the best one of every other backend."""
    by_name = {variant.artifact.name: variant for variant in variants}
    allowed = [by_name[name] for name in verdicts.order]
    if not at_hand:
        return allowed
    kept: list[Variant] = []
    for variant in allowed:
        if all(variant.artifact.backends != other.artifact.backends for other in kept):
            kept.append(variant)
    return kept


def _draft(
    sources: Sources, model: LoadedModel, data: ExportData, cost: Cost, kept: Sequence[Variant]
) -> tuple[BundleDraft, dict[str, tuple[Role, bytes | Path]]]:
    item = data.evaluation[0]
    label = model.labels[item.label] if data.source else None
    golden, video = make_golden(model.module, model.clip, item, label)
    members: dict[str, tuple[Role, bytes | Path]] = {}
    for variant in kept:
        members.update(variant.members)
    members[GOLDEN_PATH] = ("golden-video", video)
    has_int8 = any(variant.artifact.precision == "int8" for variant in kept)
    draft = BundleDraft(
        model=ModelInfo(
            name=model.name,
            source=model.source,
            parameters=cost.parameters,
            macs=cost.macs,
            weights_sha256=model.weights_sha256,
            options=model.options,
            provenance=model.provenance,
        ),
        labels=model.labels,
        clip=model.clip,
        target=sources.profile.id,
        artifacts=tuple(variant.artifact for variant in kept),
        preferred=tuple(variant.artifact.name for variant in kept),
        decide_on_device=sources.profile.family != "cpu",
        golden=golden,
        calibration=data.provenance if has_int8 else None,
        decisions=tuple(sources.decisions),
        tools=_tools(),
    )
    return draft, members


def _measurements(model: LoadedModel, profile: DeviceProfile, verdicts: Verdicts) -> Measurements:
    return Measurements(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=model.name,
        target=profile.id,
        machine=probe_machine(),
        rows=verdicts.rows,
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
