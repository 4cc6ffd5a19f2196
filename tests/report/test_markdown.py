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


def test_the_table_says_what_the_records_say() -> None:
    rows = make_rows()
    cells = _table(render_markdown(build_report([make_view(rows=rows)])), "artifact")
    assert [line[0] for line in cells] == [row.artifact for row in rows]
    for line, row in zip(cells, rows, strict=True):
        assert line[2] == row.precision
        assert line[-2] == row.verdict
        assert str(formatting.latency_text(row)).replace("[", "\\[") in line
        if row.latency:
            assert f"{formatting.ms(row.latency.p90_ms or 0)} ms" in line


def test_what_was_lost_against_the_unpruned_model_stands_beside_the_accuracy() -> None:
    rows = tuple(row.model_copy(update={"drop": make_drop(1.0)}) for row in make_rows())
    report = build_report([make_view(rows=rows)])
    told = formatting.drop_text(make_drop(1.0))
    assert told.startswith("1.0 ")
    assert render_markdown(report).replace("\\[", "[").count(f"| {told} |") == len(rows)
    assert render_html(report).count(told) == len(rows)
    assert formatting.DROP_HEAD not in render_html(build_report([make_view()]))


def test_text_of_the_records_cannot_break_out_of_its_cell() -> None:
    rows = (make_rows()[0].model_copy(update={"reason": "a | b\n# <script>`x`"}),)
    text = render_markdown(build_report([make_view(rows=rows)]))
    assert "a \\| b # \\<script>\\`x\\`" in text


def test_the_sections_of_the_page_are_all_there() -> None:
    text = render_markdown(build_report([make_view()], [make_record()]))
    for head in ("Variants", "Per class", "Most frequent mistakes", "measured where", "How it was made", "Decisions"):
        assert f" {head}" in text
    assert "stem.conv" in text
    assert "## Latency records" in text


def test_accuracy_records_have_a_table_with_a_row_for_every_level() -> None:
    text = render_markdown(build_report([], [make_accuracy_record()]))
    expected = [[*facts.values()] for facts in formatting.accuracy_facts(make_accuracy_record())]
    lines = _table(text[text.index("## Accuracy records") :], "artifact")
    assert [[cell.replace("\\[", "[") for cell in line] for line in lines] == expected
    assert "## Latency records" not in text


def test_estimates_are_told_as_estimates() -> None:
    text = render_markdown(build_report([make_view(rows=make_estimated_rows(), target="orin-nano-8gb")]))
    assert "≈ 4.61 ms estimate" in text
    assert "Latency is only an estimate, a roofline of the target that was never measured, for onnx, tensorrt" in text


def test_a_bundle_without_measurements_says_so() -> None:
    view = make_view().model_copy(update={"measurements": None})
    text = render_markdown(build_report([view]))
    assert "Nothing was measured" in text
    assert "the device tries openvino-int8, then onnx" in text
    assert "### Variants" not in text
