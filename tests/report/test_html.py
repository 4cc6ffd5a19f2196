"""Tests of the page in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeact.report import Report, build_report, formatting, render_html
from tests.bench.making import make_record
from tests.report.making import make_accuracy, make_accuracy_record, make_estimated_rows, make_rows, make_view
from tests.report.test_scatter_chart import make_dozen, make_scatter

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
SIZES = [(360, 740), (768, 1024), (1280, 900)]


def make_report() -> Report:
    rows = list(make_rows())
    rows[0] = rows[0].model_copy(update={"reason": "<script>document.title = 'broken'</script> & \"quotes\""})
    return build_report([make_view(rows=tuple(rows))], [make_record(notes=("the CPU clock changed",))])


def make_board_report() -> Report:
    """Make a report of two scatters, measured and estimated, and of both kinds of records."""
    board = make_view("board.edgeact", rows=make_estimated_rows(), target="orin-nano-8gb")
    return build_report([make_view(), board], [make_record(), make_accuracy_record()])


def make_dozens_report() -> Report:
    """Make a report of scatters with a dozen clustered points each."""
    return Report(bundles=(), scatters=tuple(make_scatter(make_dozen(seed)) for seed in range(5)))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("Chromium and chromedriver (Debian: chromium, chromium-driver) are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    return _open(browser, tmp_path, make_report())


def _open(browser: Any, folder: Path, report: Report) -> Any:
    path = folder / "report.html"
    path.write_text(render_html(report), encoding="utf-8")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    _resize(browser, 1280, 900)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())
    return browser


def _resize(page: Any, width: int, height: int) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )


def _texts(page: Any, selector: str) -> list[str]:
    texts: list[str] = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.replace(/\\s+/g, ' ').trim())",
        selector,
    )
    return texts


@pytest.mark.browser
def test_page_has_no_console_messages_and_fetches_nothing(page: Any) -> None:
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("file:", "data:"))] == []
    assert [url for url in urls if url.startswith("file:")] == [page.current_url]
    assert page.title == "edgeact report: msf-r3d-fsam for intel-cpu"


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "report",
    [make_report(), make_board_report(), build_report([make_view("a.edgeact"), make_view("b.edgeact")])],
)
def test_page_fits_the_width_of_the_screen(browser: Any, tmp_path: Path, report: Report, size: tuple[int, int]) -> None:
    page = _open(browser, tmp_path, report)
    _resize(page, *size)
    assert page.execute_script("return document.documentElement.scrollWidth") <= size[0]


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
def test_page_shows_one_scatter_with_all_measured_candidates(page: Any, size: tuple[int, int]) -> None:
    _resize(page, *size)
    shown = [each for each in page.find_elements("css selector", "figure > svg") if each.is_displayed()]
    measured = [row for row in make_rows() if row.latency and row.accuracy]
    assert len(shown) == 1
    assert len(shown[0].find_elements("css selector", "g.point")) == len(measured)
    names = [each.text for each in shown[0].find_elements("css selector", "g.name text")]
    assert sorted(names) == sorted(row.artifact for row in measured)


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
def test_page_draws_estimates_in_a_scatter_of_their_own(browser: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    page = _open(browser, tmp_path, make_board_report())
    _resize(page, *size)
    shown = [each for each in page.find_elements("css selector", "figure > svg") if each.is_displayed()]
    dashes = [
        page.execute_script(
            "return [...arguments[0].querySelectorAll('g.point > :last-child')]"
            ".map(e => getComputedStyle(e).strokeDasharray)",
            each,
        )
        for each in shown
    ]
    measured, estimated = dashes
    assert (len(measured), len(estimated)) == (5, 3)
    assert set(measured) == {"none"}
    assert "none" not in estimated
    bars = [
        page.execute_script("return [...arguments[0].querySelectorAll('g.bar')].map(e => e.getBBox().width)", each)
        for each in shown
    ]
    assert [len(widths) for widths in bars] == [2 * 5, 3]
    assert bars[1] == [0] * 3  # an estimate has no error bar of its latency
    assert ["latency p50" in each.text for each in shown] == [True, False]
    assert ["latency estimate, ms per clip" in each.text for each in shown] == [False, True]
    assert ["dashed: estimate" in each.text for each in shown] == [False, True]
    assert _texts(page, ".scatter h2") == _texts(page, "figure > svg.wide > title")
    assert _texts(page, ".scatter h2")[1].endswith("estimates for Jetson Orin Nano 8GB, not measured")
    assert "tensorrt-int8: 1.83 ms (estimate), 93.8 %." in _texts(page, "figure > svg.wide > desc")[1]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("report", [make_report(), make_board_report(), make_dozens_report()])
@pytest.mark.parametrize("size", SIZES)
def test_page_names_of_points_do_not_overlap(
    browser: Any, tmp_path: Path, report: Report, size: tuple[int, int]
) -> None:
    page = _open(browser, tmp_path, report)
    _resize(page, *size)
    charts = page.execute_script(
        "return [...document.querySelectorAll('figure > svg')].map(s => [...s.querySelectorAll('g.name text')]"
        ".map(e => e.getBoundingClientRect()).filter(b => b.width).map(b => [b.left, b.top, b.right, b.bottom]))"
    )
    drawn = [boxes for boxes in charts if boxes]
    assert [len(boxes) for boxes in drawn] == [len(scatter.points) for scatter in report.scatters]
    for boxes in drawn:
        for index, (left, top, right, bottom) in enumerate(boxes):
            assert bottom - top >= 11
            for other in boxes[:index]:
                assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


@pytest.mark.browser
def test_page_table_of_candidates_equals_the_records(page: Any) -> None:
    rows = make_report().bundles[0].rows
    cells = _texts(page, ".bundle .candidates tbody tr > *")
    width = len(cells) // len(rows)
    for index, row in enumerate(rows):
        line = cells[index * width : (index + 1) * width]
        accuracy = row.accuracy[0] if row.accuracy else None
        assert line == [
            f"{row.artifact} {row.backend} on {row.device}",
            row.precision,
            formatting.bytes_text(row.size_bytes),
            str(formatting.parity_text(row.parity)),
            str(formatting.top1_text(accuracy)),
            str(formatting.latency_text(row)),
            formatting.tail_text(row.latency.p90_ms if row.latency else None),
            f"{row.verdict} {row.reason}",
        ]
    assert _texts(page, ".records tbody tr > *") == [
        *formatting.latency_facts(make_record(notes=("the CPU clock changed",))).values()
    ]


@pytest.mark.browser
def test_page_table_of_accuracy_records_equals_the_records(browser: Any, tmp_path: Path) -> None:
    page = _open(browser, tmp_path, build_report([], [make_accuracy_record()]))
    assert _texts(page, ".records h2") == ["Accuracy records"]
    facts = formatting.accuracy_facts(make_accuracy_record())
    assert _texts(page, ".records thead th") == [*facts[0]]
    assert _texts(page, ".records tbody tr > *") == [cell for row in facts for cell in row.values()]


@pytest.mark.browser
def test_page_classes_and_confusion_matrix_equal_the_records(page: Any) -> None:
    accuracy = make_rows()[3].accuracy[0]
    assert _texts(page, ".classes tbody tr > th") == [each.label for each in accuracy.per_class]
    shares = [f"{100 * each.correct / each.count:.1f} %" for each in accuracy.per_class]
    assert _texts(page, ".classes tbody tr > td:nth-child(3)") == shares
    counts = [str(count) if count else "·" for row in accuracy.confusion for count in row]
    assert _texts(page, "details[open] .confusion tbody td") == counts


@pytest.mark.browser
def test_page_of_many_classes_lists_mistakes_and_is_small(browser: Any, tmp_path: Path) -> None:
    labels = tuple(f"action {index}" for index in range(101))
    report = build_report([make_view(rows=make_rows(labels), labels=labels)])
    page = _open(browser, tmp_path, report)
    assert _texts(page, ".confusion") == []
    assert any("of 40" in text for text in _texts(page, "details[open] td"))
    assert (tmp_path / "report.html").stat().st_size < 300_000


@pytest.mark.browser
def test_page_in_print_is_light_and_unfolded(page: Any) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    background = "return getComputedStyle(document.body).backgroundColor"
    folded = "return [...document.querySelectorAll('details:not([open]) table')].map(e => e.checkVisibility())"
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": dark})
    assert page.execute_script(background) == "rgb(20, 24, 29)"
    assert page.execute_script(folded) == [False] * 4
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    assert page.execute_script(background) == "rgb(255, 255, 255)"
    assert page.execute_script(folded) == [True] * 4


@pytest.mark.browser
def test_page_describes_each_scatter_for_screen_readers(page: Any) -> None:
    text = _texts(page, "figure > svg.wide > desc")[0]
    for row in make_rows():
        if row.latency and row.accuracy:
            assert (
                f"{row.artifact}: {formatting.ms(row.latency.p50_ms)} ms, {100 * row.accuracy[0].top1:.1f} %." in text
            )


def test_render_html_is_deterministic_without_scripts_or_addresses() -> None:
    text = render_html(make_report())
    assert text == render_html(make_report())
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert "&lt;script&gt;" in text
    assert len(text) < 300_000


def test_render_html_of_a_bundle_without_measurements() -> None:
    text = render_html(build_report([make_view().model_copy(update={"measurements": None})]))
    assert "The bundle has no measurements" in text
    assert "<figure>" not in text
    assert "no candidate has both an accuracy and a latency" in text


@pytest.mark.slow
def test_render_html_has_columns_for_clips_and_for_videos() -> None:
    both = (make_accuracy(0.9), make_accuracy(0.96, level="video"))
    rows = tuple(row.model_copy(update={"accuracy": both}) for row in make_rows()[:2])
    text = render_html(build_report([make_view(rows=rows)]))
    assert "top-1, stick-actions test, clips</th>" in text
    assert "top-1, stick-actions test, videos</th>" in text
