"""Timing on the device: the fastest artifact wins, and the decision is kept."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeact import runtime
from edgeact.bundle import Bundle
from edgeact.runtime import FakeBackend, OpenOptions, Session, open_artifact
from edgeact.runtime.choice import Candidate
from edgeact.runtime.decision import decide
from tests.runtime.making import LABELS, ArtifactSpec, make_bundle


def _slow(milliseconds: float) -> FakeBackend:
    def logits(clip: Any) -> Any:
        time.sleep(milliseconds / 1e3)
        return np.zeros(len(LABELS), np.float32)

    return FakeBackend(logits=logits)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(
        tmp_path / "b.edgeact", [ArtifactSpec("int8", ("fake",)), ArtifactSpec("fp16", ("fake",))], decide=True
    )


def _candidates(bundle: Bundle, *backends: FakeBackend) -> list[Candidate]:
    pairs = zip(bundle.manifest.artifacts, backends, strict=True)
    return [Candidate(artifact, backend, rank) for rank, (artifact, backend) in enumerate(pairs)]


def _decide(bundle: Bundle, candidates: list[Candidate]) -> tuple[list[str], str]:
    def open_candidate(candidate: Candidate) -> Session:
        return open_artifact(bundle, candidate.artifact, candidate.backend, OpenOptions())

    ordered, text = decide(candidates, {"bundle": bundle.digest}, open_candidate)
    return [candidate.artifact.name for candidate in ordered], text


def test_the_fastest_comes_first_and_is_kept(bundle: Bundle) -> None:
    slow, fast = _slow(8.0), _slow(0.5)
    names, text = _decide(bundle, _candidates(bundle, slow, fast))
    assert names == ["fp16", "int8"]
    assert "decided on this device, median of 9 runs: int8 " in text
    assert _decide(bundle, _candidates(bundle, slow, fast)) == (names, text)
    assert len(slow.opened) == slow.closed == len(fast.opened) == 1


def test_an_artifact_that_does_not_open_is_not_chosen(bundle: Bundle) -> None:
    names, text = _decide(bundle, _candidates(bundle, FakeBackend(fail_open="broken"), _slow(1.0)))
    assert names[0] == "fp16"
    assert "int8" not in text


def test_an_unreadable_file_is_measured_again(bundle: Bundle, cache: Path) -> None:
    candidates = _candidates(bundle, _slow(3.0), _slow(0.1))
    _decide(bundle, candidates)
    (kept,) = (cache / "decisions").iterdir()
    kept.write_text("{broken")
    assert _decide(bundle, candidates)[0][0] == "fp16"


def test_one_artifact_leaves_nothing_to_decide(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b.edgeact", [ArtifactSpec("only", ("fake",))], decide=True)
    backend = FakeBackend()
    assert _decide(bundle, _candidates(bundle, backend)) == (["only"], "")
    assert not backend.opened


def test_load_states_and_announces_the_decision(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgeact.runtime")
    ways = [ArtifactSpec("one", ("onnxruntime",)), ArtifactSpec("two", ("onnxruntime",))]
    with runtime.load(make_bundle(tmp_path / "b.edgeact", ways, decide=True).path, threads=1) as recognizer:
        assert recognizer.choice.reason.startswith("decided on this device")
        assert not recognizer.choice.is_fallback
    assert "timing one on onnxruntime, once for this device (1 of 2)" in caplog.messages
    assert "timing two on onnxruntime, once for this device (2 of 2)" in caplog.messages
