from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.clip import ClipSpec
from edgeact.records import Interval, SearchRecipe, SearchRecord, SearchTrial
from edgeact.report import read_inputs, render_html, render_markdown
from tests.report.making import make_drop, make_latency, make_machine

CLIP = ClipSpec(clip_frames=4, fps=8, resize=(36, 36), crop=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)


def _trial(number: int, ms: float, points: float, *, estimated: bool = False) -> SearchTrial:
    return SearchTrial(
        number=number,
        ratios={"stem": 0.5, "head": 0.0},
        int8=("stem",),
        clip_frames=4,
        size=32,
        artifact="openvino-int8",
        precision="int8",
        backend="openvino",
        size_bytes=1000,
        latency=None if estimated else make_latency(ms),
        latency_estimate_ms=ms if estimated else None,
        top1=0.9 - points / 100,
        top1_interval=Interval(low=0.8, high=0.95),
        drop=make_drop(points),
        within_budgets=points <= 1,
    )


def _record(*, estimated: bool = False) -> SearchRecord:
    trials = (
        _trial(0, 9.0, 0.0, estimated=estimated),
        _trial(1, 4.0, 0.5, estimated=estimated),
        _trial(2, 8.0, 2.0, estimated=estimated),
        SearchTrial(number=3, ratios={}, int8=(), clip_frames=4, size=32, failure="conversion failed"),
    )
    recipe = SearchRecipe(
        source="m",
        weights=None,
        weights_sha256="0" * 64,
        labels=("a", "b"),
        width=None,
        clip=CLIP,
        data="d",
        data_digest="1" * 64,
        calibration_clips=64,
        evaluation_videos=200,
        accept_poor_calibration=False,
        seed=0,
        finetune_epochs=2,
        threads=2,
        channel_multiple=4,
        space_version=1,
        stages={"stem": ("stem",), "head": ("head",)},
        patterns={"stem": ("stem",)},
    )
    return SearchRecord(
        created_utc="2026-01-01T00:00:00+00:00",
        model="m",
        target="orin-nano-8gb" if estimated else "intel-cpu",
        recipe=recipe,
        machine=make_machine(),
        is_estimate=estimated,
        dataset="clips",
        split="test",
        count=200,
        reference_top1=0.9,
        max_ms=5.0,
        max_drop_points=1.0,
        wanted_trials=5,
        trials=trials,
        front=(1, 0),
        chosen=1,
        notes=("200 videos are too few to detect a drop of one point",),
    )


@pytest.fixture(params=[False, True], ids=["measured", "estimated"])
def pages(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[bool, str, str]:
    """Return whether latencies are estimates, the HTML and the Markdown."""
    path = tmp_path / "m.search.json"
    path.write_text(_record(estimated=request.param).model_dump_json())
    report = read_inputs([path])
    return request.param, render_html(report), render_markdown(report)


def test_front_rows_have_export_commands(pages: tuple[bool, str, str], tmp_path: Path) -> None:
    _, html, markdown = pages
    for number in (0, 1):
        command = f"edgeact export --trial {tmp_path}/m.search.json:{number}"
        assert f"<code>{command}</code>" in html
        assert command in markdown.replace("\\", "")
    assert f"m.search.json:{2}" not in html


def test_search_labels_estimated_latencies_everywhere(pages: tuple[bool, str, str]) -> None:
    estimated, html, markdown = pages
    for page in (html, markdown):
        assert ("≈ 4.00 ms estimate" in page) == estimated
        assert ("not measured" in page) == estimated
        assert ("no other work of the search at the same time" in page) != estimated
    assert ("latency estimates for" in html) == estimated
    assert "p50, ms per clip" in html or estimated


def test_search_shows_progress_choice_failures_and_notes(pages: tuple[bool, str, str]) -> None:
    _, html, markdown = pages
    for page in (html, markdown):
        assert "4 of 5 trials are finished; 1 of them failed" in page
        assert "The fastest trial within both budgets is trial 1" in page
        assert "failed: conversion failed" in page
        assert "200 videos are too few" in page
        assert "undecided, p = 0.75" in page
    assert html.count('<g class="point">') == 3 * 2  # wide and narrow


def test_search_without_a_finished_trial_has_no_scatter(tmp_path: Path) -> None:
    record = _record()
    bare = record.model_copy(update={"trials": record.trials[3:], "front": (), "chosen": None})
    path = tmp_path / "m.search.json"
    path.write_text(bare.model_dump_json())
    report = read_inputs([path])
    assert report.scatters == ()
    assert "No trial meets both budgets." in render_html(report)
