"""Models with a name or a published figure: counted parameters and MACs beside those of the paper."""

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
    "catalog",
    "entries_of",
    "markdown",
    "options_of",
]

HEADERS = ("model", "clip", "classes", "M par.", "paper", "%", "GMACs", "paper", "%", "figure of")
"""Of `Entry.cells`: the count, the figure in the paper, and their difference."""

_CLASSES = 101  # UCF-101's, for models without a figure
_NO_LIMITS = {"integer": "a number", "string": "a word", "boolean": "0 or 1", "array": "numbers, as in 3,4"}


class _CatalogModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_CatalogModel):
    """A model at one size, with its paper's figure, if any."""

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
        """Difference of the parameters from the paper's figure, in percent of the figure; None without a figure."""
        return _percent(self.parameters / 1e6, self.figure.parameters_m if self.figure else None)

    @property
    def macs_percent(self) -> float | None:
        """Difference of the MACs from the paper's figure, in percent of the figure; None without a figure."""
        return _percent(self.macs / 1e9, self.figure.gmacs if self.figure else None)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons for the paper's figures that are not met."""
        reasons = (self.figure.why_parameters, self.figure.why_gmacs) if self.figure else ()
        return tuple(reason for reason in reasons if reason)

    @property
    def cells(self) -> tuple[str, ...]:
        """Row of the table below `HEADERS`, parameters in millions and MACs in billions."""
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

    def document(self) -> dict[str, object]:
        """Return the entry and its differences as JSON-ready data."""
        differences = {"parameters_percent": self.parameters_percent, "macs_percent": self.macs_percent}
        return {**self.model_dump(mode="json"), **differences}


class Option(_CatalogModel):
    """An option of a backbone or an attention, written `?name=value`."""

    name: str
    default: str
    allowed: str
    meaning: str


class Part(_CatalogModel):
    """A backbone or an attention, by its name in formulas."""

    name: str
    source: str
    options: tuple[Option, ...]


def catalog() -> Iterator[Entry]:
    """Yield an entry per published figure, then one per model of the registry without a figure; takes seconds."""
    figures = published_figures()
    for figure in figures:
        yield _entry(find_model(figure.model), figure)
    published = {find_model(figure.model).name for figure in figures}
    for name, spec in MODELS.items():
        if name not in published:
            yield _entry(spec, None)


def entries_of(spec: ModelSpec) -> tuple[Entry, ...]:
    """Return an entry per published figure of one model, or an entry without a figure."""
    figures = [figure for figure in published_figures() if find_model(figure.model).name == spec.name]
    return tuple(_entry(spec, figure) for figure in figures or (None,))


def backbones() -> tuple[Part, ...]:
    """Return all backbones with their options."""
    return tuple(Part(name=row.name, source=row.paper, options=options_of(row.options)) for row in BACKBONES.values())


def attentions() -> tuple[Part, ...]:
    """Return all attentions with their options."""
    return tuple(Part(name=row.name, source=row.source, options=options_of(row.options)) for row in ATTENTIONS.values())


def options_of(options: type[PartOptions]) -> tuple[Option, ...]:
    """Return the allowed values and the meaning of every field of `options`."""
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
    """Return the catalog as a Markdown table, and below the table each reason once with its models."""
    entries = list(catalog())
    lines = [f"| {' | '.join(HEADERS)} |", f"| {' | '.join('---' for _ in HEADERS)} |"]
    for entry in entries:
        name, *others = entry.cells
        lines.append(f"| `{name}` | {' | '.join(others)} |")
    models: dict[str, dict[str, None]] = {}
    for entry in entries:
        for reason in entry.reasons:
            models.setdefault(reason, {})[f"`{entry.name}`, {entry.cells[-1]}"] = None
    reasons = [f"* {'; '.join(names)}: {reason}" for reason, names in models.items()]
    return "\n".join([*lines, *([""] if reasons else []), *reasons])


@functools.cache
def _entry(spec: ModelSpec, figure: Figure | None) -> Entry:
    clip = resized_clip(spec.clip, clip_frames=figure.clip_frames) if figure else spec.clip
    config = spec.config(figure.classes if figure else _CLASSES, clip=clip)
    with torch.device("meta"):  # shapes alone, nothing is computed
        cost = measure_cost(spec.build(config), config.input_shape)
    return Entry(
        name=spec.name,
        formula=str(spec.formula),
        paper=spec.paper,
        clip=clip,
        classes=config.class_count,
        width=config.width,
        parameters=cost.parameters,
        macs=cost.macs,
        figure=figure,
    )


def _percent(counted: float, printed: float | None) -> float | None:
    return None if printed is None else round(100 * (counted / printed - 1), 2)


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def _meaning(options: type[PartOptions], name: str) -> str:
    """Return the docstring below the field; a subclass that only changes the default keeps its base's docstring."""
    kinds = [kind for kind in options.__mro__ if issubclass(kind, PartOptions) and name in kind.model_fields]
    descriptions = (kind.model_fields[name].description for kind in kinds)
    return " ".join(next((text for text in descriptions if text), "").split())


def _allowed(schema: dict[str, Any]) -> str:
    """Return the values that an option's JSON schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(choice) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(map(str, schema.get("enum", [schema.get("const")])))
    low, high = (schema.get(key, schema.get(alias)) for key, alias in (("ge", "minimum"), ("le", "maximum")))
    if low is None and high is None:
        return _NO_LIMITS[schema["type"]]
    return f"{low} or more" if high is None else f"{low} to {high}"
