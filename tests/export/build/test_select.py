"""What is shipped, by hand-made measurements of every kind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeact.bench import summarize
from edgeact.bundle import Artifact
from edgeact.devices import load_profile
from edgeact.errors import ParityError
from edgeact.export.build.measure import REFERENCE, UNPRUNED, Measured
from edgeact.export.build.select import Terms, judge
from edgeact.export.candidates.candidate import Variant
from edgeact.export.models.cost import Cost
from edgeact.records import Accuracy, Interval, Latency, Parity, ParityLimits, Precision

LIMITS = ParityLimits(max_abs_error=None, snr_db=10.0, top1_agreement=0.9)
TERMS = Terms(load_profile("cpu"), Cost(1000, 10_000_000, 100_000), 4000, 1.0)
JETSON = Terms(load_profile("jetson"), Cost(1000, 10_000_000, 100_000), 4000, 1.0)


def _variant(name: str, backend: str = "openvino", precision: Precision = "fp32") -> Variant:
    artifact = Artifact(name=name, kind="onnx", precision=precision, backends=(backend,), members=(f"{name}.onnx",))
    return Variant(artifact, {f"{name}.onnx": ("graph", b"graph")}, backend)


def _engine(name: str, graph: str) -> Variant:
    artifact = Artifact(
        name=name, kind="tensorrt-rtx-engine", precision="fp16", backends=("tensorrt-rtx",), members=(f"{name}.engine",)
    )
    return Variant(artifact, {f"{name}.engine": ("engine", b"code")}, None, built_from=graph)


def _parity(passed: bool = True) -> Parity:
    snr_db = 40.0 if passed else 1.5
    return Parity(clips=24, max_abs_error=0.5, snr_db=snr_db, top1_agreement=1.0, limits=LIMITS, passed=passed)


def _accuracy(correct: int, of: int = 200) -> tuple[Accuracy, ...]:
    def level(name: str, right: int) -> Accuracy:
        return Accuracy.model_validate(
            {
                "level": name,
                "dataset": "hand-made",
                "split": "test",
                "data_digest": "0" * 64,
                "count": of,
                "correct": right,
                "top1": right / of,
                "top1_interval": Interval(low=0.0, high=1.0),
                "top5": None,
            }
        )

    return level("clip", 0), level("video", correct)


def _latency(median_ms: float) -> Latency:
    return summarize([median_ms] * 9, warmup_runs=1, threads=1)


def test_the_fastest_within_the_budget_is_chosen_and_each_other_backend_keeps_its_fastest() -> None:
    variants = [_variant("a"), _variant("b"), _variant("c", "onnxruntime"), _variant("d", "onnxruntime")]
    times = {"a": 2.0, "b": 1.0, "c": 3.0, "d": 8.0}
    measured = Measured(
        {name: _parity() for name in times},
        latencies={name: _latency(time) for name, time in times.items()},
        reasons={"c": "no kernel"},
    )
    verdicts = judge(variants, measured, TERMS)
    assert verdicts.shipped == ("b", "c")
    assert verdicts.timed
    assert [(row.artifact, row.verdict) for row in verdicts.rows] == [
        (REFERENCE, "reference"),
        ("a", "rejected"),
        ("b", "chosen"),
        ("c", "candidate"),
        ("d", "rejected"),
    ]
    reasons = {row.artifact: row.reason for row in verdicts.rows}
    assert reasons["a"] == "2.00 times the latency of b"
    assert reasons["c"].startswith("3.00 times the latency of b: no kernel; kept for machines")
    assert all(row.latency_estimate_ms is None for row in verdicts.rows)


def test_the_fastest_names_those_that_the_measurement_does_not_tell_from_it() -> None:
    variants = [_variant(name) for name in ("a", "b", "c", "inaccurate")]
    wide = {"a": Interval(low=0.9, high=1.3), "b": Interval(low=1.2, high=1.6), "c": Interval(low=2.0, high=2.1)}
    wide["inaccurate"] = wide["a"]
    measured = Measured(
        {name: _parity(name != "inaccurate") for name in wide},
        latencies={
            name: _latency((of.low + of.high) / 2).model_copy(update={"p50_interval": of}) for name, of in wide.items()
        },
    )
    reasons = {row.artifact: row.reason for row in judge(variants, measured, TERMS).rows}
    assert reasons["a"].endswith("; not told apart from b: the intervals of their latency overlap")
    assert reasons["b"] == "1.27 times the latency of a (their intervals overlap)"
    assert reasons["c"] == "1.86 times the latency of a"


def test_a_loss_just_beyond_the_budget_is_told_exactly() -> None:
    measured = Measured({"a": _parity()}, accuracies={REFERENCE: _accuracy(960, 960), "a": _accuracy(950, 960)})
    with pytest.raises(ParityError, match=r"loses 1\.042 points of top-1, 1\.000 are allowed"):
        judge([_variant("a")], measured, TERMS)


def test_faster_is_no_excuse_for_a_loss_of_accuracy() -> None:
    variants = [_variant("float"), _variant("int8", precision="int8")]
    measured = Measured(
        {"float": _parity(), "int8": _parity()},
        accuracies={REFERENCE: _accuracy(180), "float": _accuracy(180), "int8": _accuracy(177)},
        latencies={"float": _latency(9.0), "int8": _latency(1.0)},
    )
    verdicts = judge(variants, measured, TERMS)
    assert verdicts.shipped == ("float",)
    assert verdicts.rows[2].verdict == "rejected"
    assert verdicts.rows[2].reason == "loses 1.5 points of top-1, 1.0 are allowed"


@pytest.mark.parametrize(("correct", "shipped"), [(178, True), (190, True), (177, False)])
def test_the_budget_itself_is_allowed_and_a_gain_is_no_loss(correct: int, shipped: bool) -> None:
    measured = Measured(
        {"float": _parity(), "int8": _parity()},
        accuracies={REFERENCE: _accuracy(180), "float": _accuracy(180), "int8": _accuracy(correct)},
    )
    verdicts = judge([_variant("float"), _variant("int8")], measured, TERMS)
    assert ("int8" in verdicts.shipped) == shipped


def test_a_target_elsewhere_gets_every_candidate_with_an_estimate() -> None:
    variants = [_variant("int8", "tensorrt", "int8"), _variant("half", "tensorrt", "fp16")]
    accuracies = dict.fromkeys((REFERENCE, "int8", "half"), _accuracy(180))
    verdicts = judge(variants, Measured({"int8": _parity(), "half": _parity()}, accuracies=accuracies), JETSON)
    assert verdicts.shipped == ("int8", "half")
    assert not verdicts.timed
    estimates = [row.latency_estimate_ms for row in verdicts.rows[1:]]
    assert None not in estimates
    assert all(row.latency is None for row in verdicts.rows)
    assert {row.verdict for row in verdicts.rows[1:]} == {"candidate"}


UNKNOWN = "accuracy not measured, so INT8 is not preferred: give --labels and --data data with the model's labels"
QUICK = {"half": 4.0, "slow": 6.0, "int8": 1.0, "int8-slow": 2.0, "int8-slower": 9.0}


def _of_unknown_accuracy(names: tuple[str, ...] = tuple(QUICK)) -> tuple[list[Variant], Measured]:
    """Variants that agree with PyTorch and were timed, on data whose labels are not the model's."""
    variants = [
        _variant(name, "onnxruntime" if "slow" in name else "openvino", "int8" if "int8" in name else "fp16")
        for name in names
    ]
    latencies = {name: _latency(QUICK[name]) for name in names}
    return variants, Measured({name: _parity() for name in names}, latencies=latencies)


def test_int8_of_unknown_accuracy_stands_behind_what_is_float() -> None:
    verdicts = judge(*_of_unknown_accuracy(), TERMS)
    assert verdicts.shipped == ("half", "slow", "int8")
    rows = {row.artifact: (row.verdict, row.reason) for row in verdicts.rows}
    assert rows["half"] == ("chosen", f"fastest float artifact on this machine; {UNKNOWN}")
    assert rows["int8"] == ("candidate", f"0.25 times the latency of half; {UNKNOWN}")
    assert rows["int8-slow"] == ("rejected", f"0.50 times the latency of half; {UNKNOWN}")


def test_int8_of_unknown_accuracy_and_no_faster_is_not_shipped() -> None:
    verdicts = judge(*_of_unknown_accuracy(("half", "int8-slower")), TERMS)
    assert verdicts.shipped == ("half",)
    assert verdicts.rows[2].reason.startswith("2.25 times the latency of half; accuracy not measured")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"int8_asked": True}, "fastest on this machine; accuracy not measured"),
        ({"trained": False}, "fastest on this machine; random weights: accuracy means nothing"),
    ],
)
def test_int8_asked_for_or_of_random_weights_is_chosen_and_says_what_is_not_known(
    changes: dict[str, bool], words: str
) -> None:
    verdicts = judge(*_of_unknown_accuracy(), replace(TERMS, **changes))  # type: ignore[arg-type]
    assert verdicts.shipped == ("int8", "int8-slow")
    assert (verdicts.rows[3].verdict, verdicts.rows[3].reason) == ("chosen", words)


def test_a_device_that_only_times_gets_no_int8_of_unknown_accuracy() -> None:
    variants = [_variant("int8", "tensorrt", "int8"), _variant("half", "tensorrt", "fp16"), _engine("e", "int8")]
    measured = Measured({"int8": _parity(), "half": _parity()})
    verdicts = judge(variants, measured, JETSON)
    assert verdicts.shipped == ("half", "e")  # that engine is FP16
    assert (verdicts.rows[1].verdict, verdicts.rows[1].reason) == (
        "rejected",
        f"{UNKNOWN}, or ask for it with --precision int8",
    )
    assert verdicts.rows[2].reason.endswith("; accuracy not measured")
    assert judge(variants, measured, replace(JETSON, trained=False)).shipped == ("int8", "half", "e")
    assert judge(variants[:1], measured, replace(JETSON, int8_asked=True)).shipped == ("int8",)


def test_int8_stays_where_nothing_else_is_left() -> None:
    variants = [_variant("half", precision="fp16"), _variant("int8", precision="int8")]
    parities = {"half": _parity(passed=False), "int8": _parity()}
    timed = Measured(parities, latencies={"half": _latency(2.0), "int8": _latency(1.0)})
    for measured in (Measured(parities), timed):
        verdicts = judge(variants, measured, TERMS)
        assert verdicts.shipped == ("int8",)
        assert "accuracy not measured" in verdicts.rows[2].reason


def test_an_engine_follows_its_graph() -> None:
    variants = [_engine("engine-a", "a"), _engine("engine-b", "b"), _variant("a"), _variant("b")]
    measured = Measured({"a": _parity(), "b": _parity(passed=False)})
    verdicts = judge(variants, measured, TERMS)
    assert verdicts.shipped == ("engine-a", "a")
    rows = {row.artifact: row for row in verdicts.rows}
    assert rows["engine-b"].verdict == "rejected"
    assert rows["engine-b"].reason == rows["b"].reason
    assert rows["engine-a"].parity is None  # it was not run here, and no figure is borrowed


def test_what_does_not_agree_or_run_is_not_shipped_and_says_why() -> None:
    variants = [_variant("good"), _variant("off"), _variant("broken")]
    measured = Measured({"good": _parity(), "off": _parity(passed=False)}, {"broken": "out of memory"})
    verdicts = judge(variants, measured, TERMS)
    assert verdicts.shipped == ("good",)
    reasons = {row.artifact: row.reason for row in verdicts.rows}
    assert "SNR 1.5 dB (at least 10 dB)" in reasons["off"]
    assert reasons["broken"] == "does not run: out of memory"


def test_nothing_left_is_an_error_with_every_reason() -> None:
    variants = [_variant("off"), _variant("broken"), _variant("lossy")]
    measured = Measured(
        {"off": _parity(passed=False), "lossy": _parity()},
        {"broken": "out of memory"},
        {REFERENCE: _accuracy(200), "lossy": _accuracy(100)},
    )
    with pytest.raises(ParityError) as caught:
        judge(variants, measured, TERMS)
    assert caught.value.exit_code == 7
    for part in ("off: does not agree", "broken: does not run", "lossy: loses 50.0 points", "--max-drop"):
        assert part in str(caught.value)


@pytest.mark.parametrize("from_unpruned", [True, False])
def test_a_loss_counts_from_the_model_before_pruning_where_it_was_trained_after(from_unpruned: bool) -> None:
    """The pruned model itself is 5 points below the unpruned one, its graphs lose nothing more."""
    terms = replace(TERMS, unpruned_bytes=9000, counts_from_unpruned=from_unpruned)
    accuracies = {UNPRUNED: _accuracy(190), **dict.fromkeys((REFERENCE, "float"), _accuracy(180))}
    measured = Measured({"float": _parity()}, {}, accuracies, {"float": _latency(3.0)})
    if from_unpruned:
        with pytest.raises(ParityError, match=r"float: loses 5\.0 points of top-1, 1\.0 are allowed.*prune less"):
            judge([_variant("float")], measured, terms)
        terms = replace(terms, max_drop_points=5.0)
    rows = {row.artifact: row for row in judge([_variant("float")], measured, terms).rows}
    assert list(rows) == [REFERENCE, UNPRUNED, "float"]
    assert (rows[UNPRUNED].verdict, rows[UNPRUNED].size_bytes) == ("reference", 9000)
    assert rows["float"].verdict == "chosen"
