"""Every model with a name or a published figure: what it costs here, and what its paper prints."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from edgeact.clip import ClipSpec
from edgeact.export.models.attention.registry import ATTENTIONS
from edgeact.export.models.backbones.registry import BACKBONES
from edgeact.export.models.cost import measure_cost
from edgeact.export.models.part_options import PartOptions, option_text
from edgeact.export.models.published import Figure, published_figures
from edgeact.export.models.registry import MODELS, find_model
from edgeact.export.models.spec import ModelSpec, resized_clip

__all__ = [
    "HEADERS",
    "Entry",
    "Option",
    "Part",
    "attentions",
    "backbones",
    "catalogue",
    "entries_of",
    "markdown",
    "options_of",
]

HEADERS = ("model", "clip", "classes", "M par.", "paper", "%", "GMACs", "paper", "%", "figure of")
"""Of `Entry.cells`: counted, as the paper prints it, and by how much they differ."""

_CLASSES = 101  # UCF-101's, where no figure says otherwise
_NO_LIMITS = {"integer": "a number", "string": "a word", "boolean": "0 or 1", "array": "numbers, as in 3,4"}


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Told):
    """A model at one size, with its paper's figure where there is one."""

    name: str
    formula: str
    paper: str
    clip: ClipSpec
    classes: int
    width: int
    parameters: int
    macs: int
    figure: Figure | None = None

    @property
    def parameters_percent(self) -> float | None:
        """By how much it differs from the paper's figure, in percent of that."""
        return _percent(self.parameters / 1e6, self.figure.parameters_m if self.figure else None)

    @property
    def macs_percent(self) -> float | None:
        """By how much it differs from the paper's figure, in percent of that."""
        return _percent(self.macs / 1e9, self.figure.gmacs if self.figure else None)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the paper's figures cannot be met, where that is so."""
        found = (self.figure.why_parameters, self.figure.why_gmacs) if self.figure else ()
        return tuple(reason for reason in found if reason)

    @property
    def cells(self) -> tuple[str, ...]:
        """The entry as a row of the table below `HEADERS`; millions of parameters, thousands of millions of MACs."""
        figure, clip = self.figure, self.clip
        return (
            self.name,
            f"{clip.clip_frames}x{clip.crop[0]}x{clip.crop[1]}",
            str(self.classes),
            f"{self.parameters / 1e6:.2f}",
            _number(figure.parameters_m if figure else None),
            _number(self.parameters_percent, "+"),
            f"{self.macs / 1e9:.2f}",
            _number(figure.gmacs if figure else None),
            _number(self.macs_percent, "+"),
            figure.source if figure else "-",
        )

    def document(self) -> dict[str, Any]:
        """The entry and its differences as JSON-ready data."""
        differences = {"parameters_percent": self.parameters_percent, "macs_percent": self.macs_percent}
        return self.model_dump(mode="json") | differences


class Option(_Told):
    """Something to choose of a part, written `?name=value`."""

    name: str
    default: str
    allowed: str
    meaning: str


class Part(_Told):
    """A backbone or an attention module, by its name in formulas."""

    name: str
    source: str
    options: tuple[Option, ...]


def catalogue() -> Iterator[Entry]:
    """Every published figure with its model, then the registry's models without any; seconds for all."""
    figures = published_figures()
    for figure in figures:
        yield _entry(find_model(figure.model), figure)
    told = {find_model(figure.model).name for figure in figures}
    for name, spec in MODELS.items():
        if name not in told:
            yield _entry(spec, None)


def entries_of(spec: ModelSpec) -> tuple[Entry, ...]:
    """One model: an entry for every published figure of it, or one without a figure."""
    figures = [figure for figure in published_figures() if find_model(figure.model).name == spec.name]
    return tuple(_entry(spec, figure) for figure in figures or (None,))


def backbones() -> tuple[Part, ...]:
    """All backbones with their options."""
    return tuple(Part(name=row.name, source=row.paper, options=options_of(row.options)) for row in BACKBONES.values())


def attentions() -> tuple[Part, ...]:
    """All attention modules with their options."""
    return tuple(Part(name=row.name, source=row.source, options=options_of(row.options)) for row in ATTENTIONS.values())


def options_of(options: type[PartOptions]) -> tuple[Option, ...]:
    """What the fields of `options` let through and mean."""
    schemas = options.model_json_schema()["properties"] if options.model_fields else {}
    return tuple(
        Option(
            name=name,
            default=option_text(field.default) or "all",
            allowed=_allowed(schemas[name]),
            meaning=_meaning(options, name),
        )
        for name, field in options.model_fields.items()
    )


def markdown() -> str:
    """The catalogue as a Markdown table, below it each reason once with the models it is true of."""
    entries = list(catalogue())
    lines = [f"| {' | '.join(HEADERS)} |", f"| {' | '.join('---' for _ in HEADERS)} |"]
    for entry in entries:
        name, *others = entry.cells
        lines.append(f"| `{name}` | {' | '.join(others)} |")
    told: dict[str, dict[str, None]] = {}
    for entry in entries:
        for reason in entry.reasons:
            told.setdefault(reason, {})[f"`{entry.name}`, {entry.cells[-1]}"] = None
    reasons = [f"* {'; '.join(names)}: {reason}" for reason, names in told.items()]
    return "\n".join([*lines, *([""] if reasons else []), *reasons])


@functools.cache
def _entry(spec: ModelSpec, figure: Figure | None) -> Entry:
    clip = resized_clip(spec.clip, clip_frames=figure.clip_frames) if figure else spec.clip
    options = spec.config(figure.classes if figure else _CLASSES, clip=clip)
    with torch.device("meta"):  # shapes alone, nothing is computed
        cost = measure_cost(spec.build(options), options.input_shape)
    return Entry(
        name=spec.name,
        formula=str(spec.formula),
        paper=spec.paper,
        clip=clip,
        classes=options.class_count,
        width=options.width,
        parameters=cost.parameters,
        macs=cost.macs,
        figure=figure,
    )


def _percent(counted: float, printed: float | None) -> float | None:
    return None if printed is None else round(100 * (counted / printed - 1), 2)


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def _meaning(options: type[PartOptions], name: str) -> str:
    """The docstring below the field; one that only has another default means what it meant before."""
    kinds = [kind for kind in options.__mro__ if issubclass(kind, PartOptions) and name in kind.model_fields]
    told = (kind.model_fields[name].description for kind in kinds)
    return " ".join(next((text for text in told if text), "").split())


def _allowed(schema: dict[str, Any]) -> str:
    """What an option's JSON schema lets through, in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(map(str, schema.get("enum", [schema.get("const")])))
    low, high = (schema.get(own, schema.get(common)) for own, common in (("ge", "minimum"), ("le", "maximum")))
    if low is None and high is None:
        return _NO_LIMITS[schema["type"]]
    return f"{low} or more" if high is None else f"{low} to {high}"
