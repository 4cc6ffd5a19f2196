"""`edgeact inspect`: show the content of a bundle on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeact.cli.output import JsonOption, emit_json, show
from edgeact.cli.results_table import rows_table
from edgeact.cli.session_options import BundleArgument
from edgeact.report.formatting import bytes_text

if TYPE_CHECKING:
    from edgeact.bundle import Artifact, Bundle, BundleDraft

__all__ = ["command", "describe"]

_LABELS_SHOWN = 6
_DECISIONS_SHOWN = 6


def command(
    bundle: BundleArgument,
    json: JsonOption = False,
) -> None:
    """Check a bundle and show its artifacts, its clip contract and its measurements."""
    from edgeact.bundle import open_bundle

    opened = open_bundle(bundle)
    if json:
        measured = opened.measurements
        emit_json(
            {
                "digest": opened.digest,
                "manifest": opened.manifest.model_dump(mode="json"),
                "measurements": measured.model_dump(mode="json") if measured else None,
            }
        )
    else:
        show(describe(opened))


def describe(bundle: Bundle) -> RenderableType:
    """Return the screen: facts, artifacts, and measurements if the bundle has any."""
    parts: list[RenderableType] = [_facts(bundle), "", _artifacts(bundle)]
    if bundle.measurements:
        parts += ["", rows_table(bundle.measurements)]
    return Group(*parts)


def _facts(bundle: Bundle) -> Table:
    manifest = bundle.manifest
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    facts = {
        "bundle": f"{bundle.path.name}, {bytes_text(bundle.path.stat().st_size)}, format {manifest.format_version}",
        "digest": bundle.digest,
        "model": _model(manifest),
        "weights": ", ".join([manifest.model.weights_sha256[:12], *_pairs(_training(manifest))]),
        **_pruning(manifest),
        "labels": _labels(manifest.labels),
        "clip": _clip(manifest),
        "target": manifest.target + (", decided on the device" if manifest.decide_on_device else ""),
        "golden": _golden(manifest),
        "calibration": _calibration(manifest),
        "tools": ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items())),
    }
    for name, value in facts.items():
        grid.add_row(name, escape(value))
    for position, decision in enumerate(manifest.decisions[:_DECISIONS_SHOWN]):
        grid.add_row("" if position else "decisions", escape(f"- {decision}"))
    if (more := len(manifest.decisions) - _DECISIONS_SHOWN) > 0:
        grid.add_row("", f"and {more} more (--json)", style="dim")
    return grid


def _model(draft: BundleDraft) -> str:
    model = draft.model
    name = model.name if model.source == model.name else f"{model.name} from {model.source}"
    macs = f"{model.macs / 1e9:.2f} GMACs" if model.macs else "MACs not counted"
    return ", ".join([name, *_pairs(model.options), f"{model.parameters / 1e6:.2f} M parameters", macs])


def _training(draft: BundleDraft) -> dict[str, str]:
    return {name: value for name, value in draft.model.provenance.items() if not _is_of_pruning(name)}


def _pruning(draft: BundleDraft) -> dict[str, str]:
    """Return the provenance of pruning and fine-tuning as a separate fact."""
    provenance = {name: value for name, value in draft.model.provenance.items() if _is_of_pruning(name)}
    return {"pruning": ", ".join(_pairs(provenance))} if provenance else {}


def _is_of_pruning(name: str) -> bool:
    return name.startswith(("pruned_", "pruning_", "finetune", "distill"))


def _pairs(options: Mapping[str, str | int | float | bool]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(options.items())]


def _labels(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:_LABELS_SHOWN])
    return f"{len(labels)}: {shown}{', …' if len(labels) > _LABELS_SHOWN else ''}"


def _clip(draft: BundleDraft) -> str:
    clip = draft.clip
    shape = "x".join(map(str, clip.input_shape))
    resize, crop = ("x".join(map(str, size)) for size in (clip.resize, clip.crop))
    return (
        f"{clip.clip_frames} frames at {clip.fps:g} fps ({clip.duration_s:.2f} s), resize {resize} "
        f"({clip.interpolation}), crop {crop}, {clip.channel_order}, mean {_triple(clip.mean)}, "
        f"std {_triple(clip.std)}; {draft.input_name} {shape} -> {draft.output_name} {len(draft.labels)}"
    )


def _triple(values: tuple[float, float, float]) -> str:
    return "/".join(f"{value:.4g}" for value in values)


def _golden(draft: BundleDraft) -> str:
    golden = draft.golden
    if golden is None:
        return "none: the device cannot check itself"
    top = draft.labels[max(range(len(golden.logits)), key=golden.logits.__getitem__)]
    truth = f", true label '{golden.label}'" if golden.label else ""
    return f"{golden.video}, {'x'.join(map(str, golden.frames_shape))}, PyTorch says '{top}'{truth}"


def _calibration(draft: BundleDraft) -> str:
    origin = draft.calibration
    if origin is None:
        return "none: no INT8"
    videos = f"{origin.videos} videos, {origin.classes} classes, {origin.dataset} {origin.split}"
    settled = "" if origin.settled_after is None else f", settled after {origin.settled_after} clips"
    settled = f", {origin.unsettled} ranges not settled" if origin.unsettled else settled
    synthetic = "SYNTHETIC clips; " if origin.synthetic else ""
    source = f"{synthetic}{origin.clips} clips of {videos} ({origin.data_digest[:12]})"
    return f"{source}, {origin.method}{settled}, seed {origin.seed}"


def _artifacts(bundle: Bundle) -> RenderableType:
    sizes = {member.path: member.size_bytes for member in bundle.manifest.members}
    order = {name: str(position) for position, name in enumerate(bundle.manifest.preferred, 1)}
    table = _table("artifact", "kind", "precision", "backends", numeric=("try", "size", "in float"))
    needs = []
    for artifact in bundle.manifest.artifacts:
        table.add_row(
            escape(artifact.name),
            artifact.kind,
            artifact.precision,
            escape(", ".join(artifact.backends)),
            order.get(artifact.name, "-"),
            bytes_text(sum(sizes[path] for path in artifact.members)),
            "all" if artifact.precision == "fp32" else str(len(artifact.float_layers)),
        )
        if requirements := _requirements(artifact):
            needs.append(f"{escape(artifact.name)} needs {escape(requirements)}")
    return Group(table, *needs)


def _requirements(artifact: Artifact) -> str:
    versions = [f"{name} {version}" for name, version in sorted(artifact.requires.items())]
    return ", ".join([*versions, *(["your trust, as executable code"] if artifact.is_engine else [])])


def _table(*headers: str, numeric: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header in ("artifact", "kind"))
    for header in numeric:
        table.add_column(header, justify="right", no_wrap=True)
    return table
