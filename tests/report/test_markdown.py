from __future__ import annotations

from edgeact.report import build_report, formatting, render_html, render_markdown
from tests.bench.making import make_record
from tests.report.making import make_accuracy_record, make_drop, make_estimated_rows, make_rows, make_view


def _table(text: str, first_head: str) -> list[list[str]]:
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {first_head} |"))
    body = lines[start + 2 :]
    end = next((index for index, line in enumerate(body) if not line.startswith("|")), len(body))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body[:end]]


def test_render_markdown_table_of_candidates_equals_the_records() -> None:
    rows = make_rows()
    cells = _table(render_markdown(build_report([make_view(rows=rows)])), "artifact")
    assert [line[0] for line in cells] == [row.artifact for row in rows]
    for line, row in zip(cells, rows, strict=True):
        assert line[2] == row.precision
        assert line[-2] == row.verdict
        assert str(formatting.latency_text(row)).replace("[", "\\[") in line
        if row.latency:
            assert f"{formatting.ms(row.latency.p90_ms or 0)} ms" in line


def test_render_markdown_and_html_show_the_accuracy_drop() -> None:
    rows = tuple(row.model_copy(update={"drop": make_drop(1.0)}) for row in make_rows())
    report = build_report([make_view(rows=rows)])
    drop = formatting.drop_text(make_drop(1.0))
    assert drop.startswith("1.0 ")
    assert render_markdown(report).replace("\\[", "[").count(f"| {drop} |") == len(rows)
    assert render_html(report).count(drop) == len(rows)
    assert formatting.DROP_HEAD not in render_html(build_report([make_view()]))


def test_render_markdown_escapes_text_of_the_records() -> None:
    rows = (make_rows()[0].model_copy(update={"reason": "a | b\n# <script>`x`"}),)
    text = render_markdown(build_report([make_view(rows=rows)]))
    assert "a \\| b # \\<script>\\`x\\`" in text


def test_render_markdown_has_all_sections() -> None:
    text = render_markdown(build_report([make_view()], [make_record()]))
    for head in ("Candidates", "Per class", "Most frequent mistakes", "Measured values", "Provenance", "Decisions"):
        assert f" {head}" in text
    assert "stem.conv" in text
    assert "## Latency records" in text


def test_render_markdown_table_of_accuracy_records_has_a_row_per_level() -> None:
    text = render_markdown(build_report([], [make_accuracy_record()]))
    expected = [[*facts.values()] for facts in formatting.accuracy_facts(make_accuracy_record())]
    lines = _table(text[text.index("## Accuracy records") :], "artifact")
    assert [[cell.replace("\\[", "[") for cell in line] for line in lines] == expected
    assert "## Latency records" not in text


def test_render_markdown_labels_estimates() -> None:
    text = render_markdown(build_report([make_view(rows=make_estimated_rows(), target="orin-nano-8gb")]))
    assert "≈ 4.61 ms estimate" in text
    assert "Latency is a roofline estimate of the target, not measured, for onnx, tensorrt" in text


def test_render_markdown_of_a_bundle_without_measurements() -> None:
    view = make_view().model_copy(update={"measurements": None})
    text = render_markdown(build_report([view]))
    assert "The bundle has no measurements" in text
    assert "the device tries openvino-int8, then onnx" in text
    assert "### Candidates" not in text
