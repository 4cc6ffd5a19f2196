"""`edgeact targets`: list the known boards with the source of every figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeact.cli.output import JsonOption, emit_json, show

if TYPE_CHECKING:
    from edgeact.devices import DeviceProfile

__all__ = ["command"]


def command(
    name: Annotated[
        str | None, typer.Argument(help="Profile or alias to show in full; default: list all.", metavar="TARGET")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the boards that a model can be exported for, or show one board with the source of every value."""
    from edgeact.devices import load_profile

    if name is None:
        _list(json)
    elif json:
        emit_json(load_profile(name))
    else:
        show(_describe(load_profile(name)))


def _list(json: bool) -> None:
    from edgeact.devices import ALIASES, list_profiles, load_profile, matching_profiles

    profiles = [load_profile(profile_id) for profile_id in list_profiles()]
    at_hand = matching_profiles()
    aliases = {profile_id: alias for alias, profile_id in ALIASES.items()}
    if json:
        entries = [_summary(profile) | {"at_hand": profile.id in at_hand} for profile in profiles]
        emit_json({"aliases": dict(ALIASES), "targets": entries})
        return
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        caption="~ inferred, no source states it; * this machine. Rates: dense peaks of the GPU.",
    )
    for header in ("target", "SM", "FP16 TFLOPS", "INT8 TOPS", "GB/s", "GiB", "TensorRT", "backends"):
        table.add_column(header, overflow="fold", no_wrap=header == "target")
    for profile in profiles:
        alias = f" ({aliases[profile.id]})" if profile.id in aliases else ""
        table.add_row(
            f"{profile.id}{alias}{' *' if profile.id in at_hand else ''}",
            profile.sm or "-",
            _marked(profile, "fp16_tflops_dense"),
            _marked(profile, "int8_tops_dense") if profile.supports_int8 else "no INT8",
            _marked(profile, "bandwidth_gb_per_s"),
            str(profile.memory_bytes >> 30) if profile.memory_bytes else "-",
            _tensorrt_versions(profile),
            ", ".join(profile.backends),
        )
    show(table)


def _summary(profile: DeviceProfile) -> dict[str, object]:
    keys = {"id", "title", "family", "sm", "supports_int8", "memory_bytes", "bandwidth_gb_per_s", "backends"}
    return profile.model_dump(mode="json", include=keys | {"fp32_tflops", "fp16_tflops_dense", "int8_tops_dense"})


def _marked(profile: DeviceProfile, field: str) -> str:
    value = getattr(profile, field)
    return "-" if value is None else f"{_mark(profile, field)}{value:g}"


def _mark(profile: DeviceProfile, path: str) -> str:
    return "~" if profile.provenance[path].mark == "inferred" else ""


def _tensorrt_versions(profile: DeviceProfile) -> str:
    versions = [dialect.version.rpartition(".")[0] for dialect in profile.tensorrt if dialect.product == "tensorrt"]
    return ", ".join(dict.fromkeys(versions)) or "-"


def _describe(profile: DeviceProfile) -> RenderableType:
    sources = _number_sources(profile)
    facts = Table("value", "", "mark", "source", title=f"{profile.id}: {profile.title}")
    for path, value in profile.values():
        if not path.startswith("tensorrt."):
            text = ", ".join(value) if isinstance(value, tuple) else str(value)
            stamp = profile.provenance[path]
            facts.add_row(path, escape(text), stamp.mark, str(sources[stamp.source]))
    parts: list[RenderableType] = [facts]
    if profile.tensorrt:
        parts.append(_dialects(profile, sources))
    return Group(*parts, *(f"{number:>3}  {escape(source)}" for source, number in sources.items()))


def _number_sources(profile: DeviceProfile) -> dict[str, int]:
    stamps = (profile.provenance[path] for path, _ in profile.values())
    return {source: number for number, source in enumerate(dict.fromkeys(stamp.source for stamp in stamps), start=1)}


def _dialects(profile: DeviceProfile, sources: dict[str, int]) -> Table:
    table = Table("release", "version", "CUDA", "Python", "opset", "typing", "Q/DQ", "sources", title="TensorRT")
    for dialect in profile.tensorrt:
        start = f"tensorrt.{dialect.name}."
        stamps = [stamp for path, stamp in profile.provenance.items() if path.startswith(start)]
        numbers = sorted({sources[stamp.source] for stamp in stamps})
        table.add_row(
            dialect.name,
            dialect.version,
            dialect.cuda or "-",
            dialect.python or "-",
            _mark(profile, f"{start}opset") + str(dialect.opset),
            dialect.typing,
            "yes" if dialect.qdq else "no",
            ", ".join(map(str, numbers)),
        )
    return table
