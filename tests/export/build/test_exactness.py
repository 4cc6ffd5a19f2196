"""Kernels that do not compute their graph: named as such by an export, and caught on the device by the self-check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeact.errors import ParityError
from edgeact.export.build import build
from edgeact.export.build.pipeline import through
from edgeact.export.build.select import Terms, inaccurate_int8
from edgeact.export.build.state import Build
from edgeact.reasons import KernelsInexact, MixedPrecision
from edgeact.runtime import FallbackWarning, load, verify
from tests.export.build.old_form import OLD, RECIPE, with_old_form, write_old_form
from tests.messages import names

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def emitted(run_cache: Path) -> Build:
    """The shipped model in INT8, up to its candidates."""
    return build(RECIPE, through("emit"))


def test_kernels_are_named_and_no_search_is_tried(emitted: Build) -> None:
    """With no other backend that computes the graph accurately, so that mixed precision would be searched."""
    old = tuple(each for each in with_old_form(emitted).candidates if each.name == OLD)
    recipe = replace(emitted.recipe, precision="auto")
    checked = build(replace(emitted, recipe=recipe, candidates=old), through("check"))
    (candidate,) = checked.candidates
    inexact = candidate.inexact
    assert isinstance(inexact, KernelsInexact)
    assert inexact.backend == "openvino"
    assert inexact.snr_db < inexact.snr_limit_db < (inexact.exact_snr_db or 0)
    assert not any(isinstance(decision, MixedPrecision) for decision in checked.decisions)
    assert not inaccurate_int8(checked.candidates, Terms(max_drop_points=1.0))
    parts = ("kernel saturates on this CPU", "openvino", "--precision auto")
    with pytest.raises(ParityError, check=names(*parts)) as caught:
        build(checked, through("select"))
    assert "--precision mixed" not in str(caught.value)


def test_exact_kernels_are_not_blamed(emitted: Build) -> None:
    checked = build(emitted, through("check"))
    assert [candidate.inexact for candidate in checked.candidates] == [None] * len(checked.candidates)


def test_a_bundle_of_the_old_form_is_caught_on_the_device(
    emitted: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_old_form(tmp_path / "old.edgeact", emitted).bundle.path
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    verification = verify(path, threads=1)
    assert [(failure.artifact, failure.result.stage) for failure in verification.failures] == [(OLD, "network")]
    assert {each.check.verdict for each in verification.artifacts if each.check and each.artifact != OLD} == {"passed"}
    with pytest.warns(FallbackWarning, match=rf"instead of {OLD} on openvino: .*stage network"):
        recognizer = load(path, threads=1)
    with recognizer:
        assert recognizer.choice.artifact != OLD
        assert recognizer.choice.check is not None
        assert recognizer.choice.check.verdict == "passed"
