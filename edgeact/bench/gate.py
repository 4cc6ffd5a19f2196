"""Latency-regression gate: compare a latency record with a baseline, and separate slowdowns from noise.

The outcome is `regression` if all three conditions hold:

1. the ratio of the medians exceeds the limit;
2. the lower 95 % bound of that ratio exceeds the limit (block bootstrap, at least 20 runs on both sides), so that noise
   alone does not fail;
3. the medians differ by more than a minimum in milliseconds, so that 10 % of a negligible latency does not fail.

If conditions 1 and 3 hold but 2 does not, the outcome is `unproven`, which passes. A comparison that passes although
noise could hide a slowdown beyond the limit is inconclusive, and says what would decide it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from pydantic import ValidationError

from edgeact.bench.bench import BenchOptions
from edgeact.bench.statistics import median_ratio
from edgeact.bundle import Bundle
from edgeact.devices import probe_machine
from edgeact.errors import BaselineError, MissingBaselineError, RegressionError, UsageError
from edgeact.records import SCHEMA_VERSION, Interval, Latency, LatencyRecord, Machine
from edgeact.schema import StrictModel

__all__ = ["Comparison", "check_comparable", "compare", "junit_xml", "parse_limit", "read_record"]

_DECIDING_RUNS = 20  # with fewer runs, the bounds of a bootstrap of medians are too narrow
_ADVICE = "measure a new baseline here with: edgeact bench BUNDLE --out FILE"
_SAME = ("model", "artifact", "precision", "backend", "device", "input_shape", "input_source")
_SAME_MACHINE = ("processor", "architecture", "cores", "memory_bytes", "isa", "board", "accelerator", "power_mode")


class Comparison(StrictModel):
    """The latency of a candidate compared with its baseline."""

    outcome: Literal["pass", "unproven", "regression"]
    model: str
    artifact: str
    baseline_p50_ms: float
    candidate_p50_ms: float
    ratio: float
    ratio_bounds: Interval
    max_regression: float
    min_delta_ms: float
    notes: tuple[str, ...] = ()
    inconclusive: str | None = None
    """Reason why the measurement is too noisy for the limit; None if the outcome is conclusive."""

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        outcomes = {"pass": "not slower than allowed", "unproven": "slower, but not proven", "regression": "SLOWER"}
        return (
            f"{self.artifact}: {outcomes[self.outcome]}: p50 {self.candidate_p50_ms:.3f} ms against "
            f"{self.baseline_p50_ms:.3f} ms is {self.ratio - 1:+.1%} (95 % bounds {self.ratio_bounds.low - 1:+.1%} to "
            f"{self.ratio_bounds.high - 1:+.1%}), allowed {self.max_regression:+.1%}"
        )

    def raise_on_regression(self) -> None:
        """Raise RegressionError if the outcome is a regression."""
        if self.outcome == "regression":
            raise RegressionError(self.summary)


def parse_limit(text: str) -> float:
    """Parse '10%' or '0.1' as the fraction 0.1; raises UsageError if the text is no finite number of at least 0."""
    body, scale = (text.strip()[:-1], 100.0) if text.strip().endswith("%") else (text, 1.0)
    try:
        value = float(body) / scale
    except ValueError:
        raise UsageError(f"limit: expected a number such as '10%' or '0.1', got '{text}'") from None
    return _checked_limit(value)


def read_record(path: str | Path) -> LatencyRecord:
    """Read a record of `edgeact bench --out`; raises BaselineError if it is missing, damaged or of another version."""
    advice = "measure a baseline with: edgeact bench BUNDLE --out FILE"
    try:
        record = LatencyRecord.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        kind = MissingBaselineError if isinstance(error, FileNotFoundError) else BaselineError
        raise kind(f"cannot read the baseline '{path}': {error.strerror or error}; {advice}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BaselineError(f"'{path}' is not a latency record: {where}: {first['msg']}; {advice}") from error
    if record.schema_version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise BaselineError(
            f"'{path}': expected record version {SCHEMA_VERSION}, got {record.schema_version}; {advice}"
        )
    return record


def check_comparable(baseline: LatencyRecord, bundle: Bundle, options: BenchOptions) -> None:
    """Raise BaselineError if `compare` would, as far as machine, bundle and options show before any measurement.

    `compare` checks the rest, which only the open session knows: its device, and artifact or backend if not given.
    """
    manifest = bundle.manifest
    names = [artifact.name for artifact in manifest.artifacts]
    differing = [
        _difference("model", baseline.model, manifest.model.name),
        _difference("input_shape", baseline.input_shape, manifest.clip.input_shape),
        _difference("threads", baseline.latency.threads, options.threads),
    ]
    if options.artifact is None and baseline.artifact not in names:
        differing.append(f"artifact was {baseline.artifact}, the bundle has {', '.join(names)}")
    if options.artifact in names:
        differing.append(_difference("artifact", baseline.artifact, options.artifact))
    if options.backend is not None:
        differing.append(_difference("backend", baseline.backend, options.backend))
    _refuse_if_any([*differing, *_machine_differences(baseline.machine, probe_machine(()))])


def compare(
    baseline: LatencyRecord, candidate: LatencyRecord, *, max_regression: float = 0.1, min_delta_ms: float = 0.05
) -> Comparison:
    """Compare two records of the same artifact on the same machine; `max_regression` is a fraction.

    Library versions and the bundle may differ, that is the purpose of the gate: the notes name the changes.
    Raises BaselineError if the records are not comparable, with what differs, and UsageError for limits that would
    disable the gate.
    """
    _checked_limit(max_regression)
    _checked_limit(min_delta_ms)
    _check_same(baseline, candidate)
    was, now = baseline.latency, candidate.latency
    ratio = now.p50_ms / was.p50_ms
    bounds = median_ratio(was.samples_ms, now.samples_ms)
    is_slower = ratio > 1 + max_regression and now.p50_ms - was.p50_ms > min_delta_ms
    is_proven = bounds.low > 1 + max_regression and min(was.runs, now.runs) >= _DECIDING_RUNS
    return Comparison(
        outcome="pass" if not is_slower else "regression" if is_proven else "unproven",
        model=candidate.model,
        artifact=candidate.artifact,
        baseline_p50_ms=was.p50_ms,
        candidate_p50_ms=now.p50_ms,
        ratio=ratio,
        ratio_bounds=bounds,
        max_regression=max_regression,
        min_delta_ms=min_delta_ms,
        notes=(
            *_changes(baseline, candidate),
            *(f"baseline: {note}" for note in baseline.notes),
            *(f"now: {note}" for note in candidate.notes),
        ),
        inconclusive=None if is_slower and is_proven else _doubt(was, now, bounds, max_regression, min_delta_ms),
    )


def junit_xml(record: LatencyRecord, outcome: Comparison | BaselineError) -> str:
    """Return a JUnit report with a test case: passed, failed (regression), or in error (baseline not comparable).

    `record` is that of the candidate, or that of the baseline if the baseline was refused before a measurement.
    """
    is_error = isinstance(outcome, BaselineError)
    is_failure = isinstance(outcome, Comparison) and outcome.outcome == "regression"
    counts = {"name": "edgeact bench", "tests": "1", "failures": str(int(is_failure)), "errors": str(int(is_error))}
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", counts)
    name = f"{record.artifact} on {record.backend} {record.device}"
    case = ElementTree.SubElement(suite, "testcase", classname=record.model, name=name)
    if isinstance(outcome, BaselineError):
        ElementTree.SubElement(case, "error", message=str(outcome), type="BaselineError")
    else:
        case.set("time", f"{sum(record.latency.samples_ms) / 1e3:.3f}")
        if is_failure:
            ElementTree.SubElement(case, "failure", message=outcome.summary, type="RegressionError")
        if outcome.inconclusive:
            ElementTree.SubElement(case, "system-err").text = outcome.inconclusive
        ElementTree.SubElement(case, "system-out").text = "\n".join((outcome.summary, *outcome.notes))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _checked_limit(value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"limit: expected a finite number of at least 0, got {value}, which would disable the gate")
    return value


def _check_same(baseline: LatencyRecord, candidate: LatencyRecord) -> None:
    differing = [_difference(name, getattr(baseline, name), getattr(candidate, name)) for name in _SAME]
    differing.append(_difference("threads", baseline.latency.threads, candidate.latency.threads))
    _refuse_if_any([*differing, *_machine_differences(baseline.machine, candidate.machine)])
    if not baseline.latency.samples_ms or not candidate.latency.samples_ms:
        raise BaselineError(f"expected records with latency samples, got a record without them; {_ADVICE}")
    if min(baseline.latency.samples_ms) <= 0:
        raise BaselineError(
            f"the baseline: expected positive latencies, got {min(baseline.latency.samples_ms)} ms; {_ADVICE}"
        )


def _doubt(was: Latency, now: Latency, bounds: Interval, max_regression: float, min_delta_ms: float) -> str | None:
    if (runs := min(was.runs, now.runs)) < _DECIDING_RUNS:
        return f"inconclusive: {runs} runs are too few, expected {_DECIDING_RUNS}: larger --runs, for the baseline, too"
    if bounds.high <= 1 + max_regression or was.p50_ms * (bounds.high - 1) <= min_delta_ms:
        return None
    reach = f"the bounds reach {bounds.high - 1:+.1%}, beyond the allowed {max_regression:+.1%}"
    return f"inconclusive: {reach}: more --runs or a quieter machine"


def _refuse_if_any(differences: list[str]) -> None:
    if texts := [text for text in differences if text]:
        raise BaselineError(f"the baseline is not comparable: {'; '.join(texts)}; {_ADVICE}")


def _machine_differences(was: Machine, now: Machine) -> list[str]:
    if was.fingerprint == now.fingerprint:
        return []
    return [_difference(name, getattr(was, name), getattr(now, name)) for name in _SAME_MACHINE]


def _difference(name: str, was: object, now: object) -> str:
    return "" if was == now else f"{name} was {was}, is {now}"


def _changes(baseline: LatencyRecord, candidate: LatencyRecord) -> list[str]:
    was, now = baseline.machine.versions, candidate.machine.versions
    notes = [f"{name} {was.get(name, 'absent')} -> {now.get(name, 'absent')}" for name in _changed_keys(was, now)]
    if baseline.machine.operating_system != candidate.machine.operating_system:
        notes.append(f"{baseline.machine.operating_system} -> {candidate.machine.operating_system}")
    if baseline.bundle_digest != candidate.bundle_digest:
        notes.append(f"another bundle: {baseline.bundle_digest[:12]} -> {candidate.bundle_digest[:12]}")
    return notes


def _changed_keys(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
