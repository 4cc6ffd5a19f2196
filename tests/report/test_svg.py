from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeact.report.svg import COLORS, Heading, new_figure, to_svg
from tests.report.drawings import parse_chart, read_labels

CHART = """
import sys
from edgeact.report.svg import Heading, new_figure, to_svg
assert "matplotlib" not in sys.modules
with new_figure(100, 50) as figure:
    figure.add_subplot().set_xlabel("latency")
    print(to_svg(figure, Heading("a", "wide", "title"), {}))
"""


def draw_text(text: str, name: str = "chart") -> str:
    with new_figure(200, 100) as figure:
        axes = figure.add_subplot()
        axes.scatter([1, 2], [1, 2], marker="^", color=COLORS["int8"], gid="point-0")
        axes.text(1, 1, text, gid="name-0")
        return to_svg(figure, Heading(name, "wide", "A & B", "<both>"), {"point-0": "1 < 2"})


@pytest.mark.parametrize("text", ["plain", "a <b> & 'c'", "$x_1$ costs $5", "\u2248 1 ms \u00b7 caf\u00e9"])
def test_to_svg_keeps_text_as_text(text: str) -> None:
    assert [label.text for label in read_labels(parse_chart(draw_text(text)), "name")] == [text]


def test_to_svg_names_the_chart_and_its_artists() -> None:
    root = parse_chart(draw_text("text"))
    assert (root.get("class"), root.get("role"), root.get("viewBox")) == ("wide", "img", "0 0 200 100")
    assert (root.findtext("title"), root.findtext("desc")) == ("A & B", "<both>")
    assert root.get("aria-labelledby") == "chart-title chart-desc"
    assert root.findtext(".//g[@class='point']/title") == "1 < 2"


def test_to_svg_takes_colors_and_fonts_from_the_page() -> None:
    svg = draw_text("#07805c")
    assert "fill:var(--int8)" in svg
    assert ">#07805c</text>" in svg
    assert "font-family" not in svg
    assert "<style" not in svg


def test_to_svg_shares_no_identifier_between_charts_of_a_page() -> None:
    first, second = ({element.get("id") for element in parse_chart(draw_text("text", name)).iter()} for name in "ab")
    assert len(first) > 2
    assert first & second == {None}


@pytest.mark.slow
def test_to_svg_is_deterministic_for_any_matplotlibrc_says(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 30\nsvg.fonttype: path\n")
    first, second = (_chart_in_new_process(MPLCONFIGDIR=folder) for folder in (str(tmp_path), ""))
    assert first == second
    assert "latency" in first


@pytest.mark.parametrize("home", ["/dev/null", "/nonexistent/home"])
def test_new_figure_needs_no_writable_home(home: str) -> None:
    assert "latency" in _chart_in_new_process(HOME=home)


def _chart_in_new_process(**environment: str) -> str:
    """Return the chart of a new process; its standard error has to stay empty."""
    inherited = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    known = inherited | {name: value for name, value in environment.items() if value}
    done = subprocess.run([sys.executable, "-c", CHART], env=known, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout
