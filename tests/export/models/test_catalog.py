"""The list of models: every row and every published figure, counted as the tests of the figures count them."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from edgeact.export.models.attention.registry import ATTENTIONS
from edgeact.export.models.backbones.registry import BACKBONES
from edgeact.export.models.catalog import (
    HEADERS,
    Entry,
    Part,
    attentions,
    backbones,
    catalog,
    entries_of,
    markdown,
    options_of,
)
from edgeact.export.models.formula import parse_formula
from edgeact.export.models.part_options import AttentionOptions, PartOptions, Stages, option_text
from edgeact.export.models.published import Figure, published_figures
from edgeact.export.models.registry import MODELS, find_model


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return list(catalog())


@pytest.mark.slow
def test_every_row_and_every_figure_is_reported(entries: list[Entry]) -> None:
    assert {entry.name for entry in entries} >= set(MODELS)
    assert [entry.figure for entry in entries if entry.figure] == list(published_figures())
    without = [entry.name for entry in entries if entry.figure is None]
    assert len(without) == len(set(without))


def test_a_figure_is_compared_at_its_size(entries: list[Entry]) -> None:
    for entry in entries:
        if entry.figure:
            assert (entry.classes, entry.clip.clip_frames) == (entry.figure.classes, entry.figure.clip_frames)
            assert find_model(entry.formula).name == entry.name


def test_differences_are_of_the_printed_figure() -> None:
    (entry,) = entries_of(find_model("cnn3d"))
    assert (entry.figure, entry.parameters_percent, entry.macs_percent, entry.reasons) == (None, None, None, ())
    figure = Figure(
        model="cnn3d", source="a table", classes=101, clip_frames=16, parameters_m=2.0, gmacs=2.0, why_gmacs="it is not"
    )
    entry = entry.model_copy(update={"parameters": 2_010_000, "macs": 1_500_000_000, "figure": figure})
    assert (entry.parameters_percent, entry.macs_percent, entry.reasons) == (0.5, -25.0, ("it is not",))
    assert entry.cells == ("cnn3d", "16x112x112", "101", "2.01", "2.00", "+0.50", "1.50", "2.00", "-25.00", "a table")
    assert entry.document()["macs_percent"] == -25.0
    assert entry.document()["figure"] == figure.model_dump(mode="json")


def test_the_markdown_has_a_line_for_each(entries: list[Entry]) -> None:
    head, rule, *rows = [line for line in markdown().splitlines() if line.startswith("|")]
    assert head.count("|") == rule.count("|") == len(HEADERS) + 1
    assert [row.split("`")[1] for row in rows] == [entry.name for entry in entries]


def test_the_markdown_gives_each_reason_once_with_all_it_is_true_of(entries: list[Entry]) -> None:
    told = [line for line in markdown().splitlines() if line.startswith("* ")]
    assert len(told) == len({reason for entry in entries for reason in entry.reasons})
    for entry in entries:
        for reason in entry.reasons:
            (line,) = (line for line in told if line.endswith(f": {reason}"))
            assert f"`{entry.name}`, {entry.cells[-1]}" in line


@pytest.mark.parametrize("part", [*backbones(), *attentions()], ids=lambda part: part.name)
def test_options_are_reported_with_default_range_and_meaning(part: Part) -> None:
    row = BACKBONES.get(part.name) or ATTENTIONS[part.name]
    options: type[PartOptions] = row.options
    assert [option.name for option in part.options] == list(options.model_fields)
    assert part.source
    for option in part.options:
        assert option.meaning, f"a docstring below '{option.name}' says what it means"
        assert option.allowed
        if option.default != "all":
            text = f"{'r3d-18+' * (part.name in ATTENTIONS)}{part.name}?{option.name}={option.default}"
            chosen = parse_formula(text)
            own = chosen.attention_options or chosen.backbone_options
            assert option_text(getattr(own, option.name)) == option.default


class _Chosen(AttentionOptions):
    stages: Stages = (2,)
    size: int = Field(3, ge=1, le=9)
    """How large."""
    least: int = Field(1, ge=1)
    shape: Literal["round"] | bool = True


def test_limits_and_meanings_are_reported_in_words() -> None:
    found = {option.name: (option.default, option.allowed, option.meaning) for option in options_of(_Chosen)}
    assert found == {
        "stages": ("2", "numbers, as in 3,4", "Stages that the attention follows; none named means all."),
        "size": ("3", "1 to 9", "How large."),
        "least": ("1", "1 or more", ""),
        "shape": ("1", "round or 0 or 1", ""),
    }
