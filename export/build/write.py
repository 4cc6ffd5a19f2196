"""The stage 'write': the bundle with the shipped artifacts, the golden clip, the recipe and the measurements."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone

import edgeact
from edgeact.bundle import Artifact, Bundle, BundleDraft, Calibration, ModelInfo, vouch, write_bundle
from edgeact.bundle.manifest import Role
from edgeact.devices import estimate_latency_ms, probe_machine
from edgeact.errors import UsageError
from edgeact.export.build.golden_clip import golden_of
from edgeact.export.build.recipe import RECIPE_MEMBER
from edgeact.export.build.state import Build, Context, Reference
from edgeact.export.candidates.candidate import Candidate
from edgeact.phrases import phrase
from edgeact.reasons import ParityReference
from edgeact.records import Measurements, Row

__all__ = ["write"]

_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "tensorrt_rtx_cu13", "numpy", "opencv-python")


def write(build: Build, context: Context) -> Build:
    """Write the bundle in one step; a file that was there is kept on failure. Raises StorageError."""
    if context.out is None:
        raise UsageError("the stage 'write' needs a file for the bundle: expected out=FILE.edgeact, got none")
    context.callbacks.begin("writing the bundle")
    members = _members(build)
    golden = golden_of(build, context)
    shipped = _shipped(build)
    has_int8 = any(candidate.precision == "int8" for candidate in shipped)
    draft = BundleDraft(
        model=_model_info(build),
        labels=build.model.labels,
        clip=build.model.clip,
        target=build.inputs.profile.id,
        artifacts=tuple(map(_artifact, shipped)),
        preferred=build.shipped,
        decide_on_device=not build.is_timed,
        golden=golden.golden,
        calibration=_provenance(build) if has_int8 else None,
        decisions=tuple(map(phrase, build.decisions)),
        tools=_tools(),
    )
    bundle = write_bundle(context.out, draft, {**golden.members, **members}, _measurements(build))
    _vouch_engines(bundle)
    return replace(build, maybe_bundle=bundle)


def _shipped(build: Build) -> list[Candidate]:
    """Return the shipped candidates, best first."""
    shipped = [candidate for candidate in build.candidates if candidate.name in build.shipped]
    return sorted(shipped, key=lambda candidate: build.shipped.index(candidate.name))


def _members(build: Build) -> Mapping[str, tuple[Role, bytes]]:
    members: dict[str, tuple[Role, bytes]] = {RECIPE_MEMBER: ("other", build.recipe.to_json())}
    for candidate in _shipped(build):
        members.update(candidate.members)
    return members


def _artifact(candidate: Candidate) -> Artifact:
    """Return the artifact; an engine has the golden logits of the graph that it was compiled from."""
    logits = candidate.judged.artifact.golden_logits
    return candidate.artifact.model_copy(update={"golden_logits": logits})


def _provenance(build: Build) -> Calibration:
    provenance, calibrator = build.inputs.data.provenance, build.lowered.inputs.calibrator
    if calibrator is None:
        return provenance
    ranges = calibrator.ranges
    settling = {"settled_after": ranges.settled_after, "unsettled": len(ranges.unsettled)}
    return provenance.model_copy(update=settling)


def _model_info(build: Build) -> ModelInfo:
    model, cost = build.model, build.lowered.cost
    return ModelInfo(
        name=model.name,
        source=model.source,
        parameters=cost.parameters,
        macs=cost.macs,
        weights_sha256=model.weights_sha256,
        options=dict(model.options),
        provenance=dict(model.provenance),
    )


def _measurements(build: Build) -> Measurements:
    return Measurements(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=build.model.name,
        target=build.inputs.profile.id,
        machine=probe_machine(),
        rows=(*map(_reference_row, build.references), *(_row(build, candidate) for candidate in build.candidates)),
        sensitivity=build.sensitivities,
        decisions=build.decisions,
    )


def _reference_row(reference: Reference) -> Row:
    reason = ParityReference(role=reference.role)
    return Row(
        artifact=reference.name,
        precision="fp32",
        backend="pytorch",
        device="CPU",
        size_bytes=reference.size_bytes,
        accuracy=reference.accuracy,
        latency=reference.latency,
        drop=reference.drop,
        verdict="reference",
        reason=phrase(reason),
        typed_reason=reason,
    )


def _row(build: Build, candidate: Candidate) -> Row:
    if candidate.verdict is None or candidate.reason is None:
        raise RuntimeError(f"candidate '{candidate.name}' has no verdict: the stage 'select' has not run")
    return Row(
        artifact=candidate.name,
        precision=candidate.precision,
        backend=candidate.artifact.backends[0],
        device=candidate.device,
        size_bytes=candidate.size_bytes,
        parity=candidate.parity,
        accuracy=candidate.accuracy,
        latency=candidate.latency,
        latency_estimate_ms=None if build.is_timed else _estimate_ms(build, candidate),
        drop=candidate.drop,
        verdict=candidate.verdict,
        reason=phrase(candidate.reason),
        typed_reason=candidate.reason,
    )


def _estimate_ms(build: Build, candidate: Candidate) -> float | None:
    cost, precision = build.lowered.cost, candidate.precision
    estimate = estimate_latency_ms(build.inputs.profile, cost.macs, cost.bytes_moved(precision), precision)
    return estimate.latency_ms if estimate else None


def _vouch_engines(bundle: Bundle) -> None:
    """Record that engines built here by this user may be opened here by this user."""
    for member in bundle.manifest.members:
        if member.role == "engine":
            vouch(member.sha256)


def _tools() -> dict[str, str]:
    versions = {"edgeact": edgeact.__version__}
    for name in _TOOLS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
