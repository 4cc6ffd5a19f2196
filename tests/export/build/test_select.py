"""Selection of candidates, by hand-made measurements of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from edgeact.bench import summarize
from edgeact.bundle import Artifact
from edgeact.errors import ParityError
from edgeact.export.build.select import Selection, Terms, inaccurate_int8, select
from edgeact.export.candidates.candidate import Candidate
from edgeact.precision import Precision
from edgeact.reasons import (
    AccuracyDropTooLarge,
    AccuracyUnknown,
    ChosenFastest,
    DecidedOnDevice,
    KernelsInexact,
    KernelsMissing,
    NotCompared,
    ParityTooLow,
    Reason,
    RunFailed,
    SlowerThanChosen,
)
from edgeact.records import Accuracy, Interval, Latency, Parity, ParityLimits
from tests.messages import names

LIMITS = ParityLimits(max_abs_error=None, snr_db=10.0, top1_agreement=0.9)


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


TERMS = Terms(max_drop_points=1.0, reference=_accuracy(180), converted=_accuracy(180))
UNMEASURED = Terms(max_drop_points=1.0)


def _candidate(
    name: str, backend: str = "openvino", precision: Precision = "fp32", *, agrees: bool = True, ms: float | None = None
) -> Candidate:
    artifact = Artifact(name=name, kind="onnx", precision=precision, backends=(backend,), members=(f"{name}.onnx",))
    members = {f"{name}.onnx": ("graph", b"graph")}
    latency = None if ms is None else _latency(ms)
    return Candidate(artifact, members, backend, backend, precision, parity=_parity(agrees), latency=latency)  # type: ignore[arg-type]


def _engine(name: str, graph: Candidate) -> Candidate:
    artifact = Artifact(
        name=name, kind="tensorrt-rtx-engine", precision="fp16", backends=("tensorrt-rtx",), members=(f"{name}.engine",)
    )
    members = {f"{name}.engine": ("engine", b"code")}
    return Candidate(artifact, members, None, "rtx-engine", "fp16", compiled_from=graph)  # type: ignore[arg-type]


def _reasons(selection: Selection) -> dict[str, Reason | None]:
    return {candidate.name: candidate.reason for candidate in selection.candidates}


def _verdicts(selection: Selection) -> list[tuple[str, str | None]]:
    return [(candidate.name, candidate.verdict) for candidate in selection.candidates]


def test_select_chooses_the_fastest_within_the_budget_and_the_fastest_of_each_other_backend() -> None:
    cause = KernelsMissing(precision="fp32", count=1, total=2, computed_in=("f32",))
    candidates = [
        _candidate("a", ms=2.0),
        _candidate("b", ms=1.0),
        replace(_candidate("c", "onnxruntime", ms=3.0), latency_causes=(cause,)),
        _candidate("d", "onnxruntime", ms=8.0),
    ]
    selection = select(candidates, UNMEASURED)
    assert selection.shipped == ("b", "c")
    assert selection.is_timed
    assert _verdicts(selection) == [("a", "rejected"), ("b", "chosen"), ("c", "candidate"), ("d", "rejected")]
    assert _reasons(selection)["a"] == SlowerThanChosen(chosen="b", ratio=2.0)
    assert _reasons(selection)["c"] == SlowerThanChosen(chosen="b", ratio=3.0, causes=(cause,), is_fallback=True)


def test_select_names_candidates_whose_latency_is_not_significantly_different() -> None:
    intervals = {"a": Interval(low=0.9, high=1.3), "b": Interval(low=1.2, high=1.6), "c": Interval(low=2.0, high=2.1)}
    intervals["inaccurate"] = intervals["a"]
    candidates = []
    for name, interval in intervals.items():
        timed = _candidate(name, agrees=name != "inaccurate", ms=(interval.low + interval.high) / 2)
        assert timed.latency is not None
        latency = timed.latency.model_copy(update={"p50_interval": interval})
        candidates.append(replace(timed, latency=latency))
    reasons = _reasons(select(candidates, replace(UNMEASURED, trained=False)))
    assert reasons["a"] == ChosenFastest(unknown_accuracy="random-weights", not_distinguished_from=("b",))
    assert reasons["b"] == SlowerThanChosen(chosen="a", ratio=1.4 / 1.1, intervals_overlap=True)
    assert isinstance(reasons["c"], SlowerThanChosen)
    assert not reasons["c"].intervals_overlap


def test_select_refuses_a_faster_candidate_beyond_the_accuracy_budget() -> None:
    candidates = [
        replace(_candidate("float", ms=9.0), accuracy=_accuracy(180)),
        replace(_candidate("int8", precision="int8", ms=1.0), accuracy=_accuracy(177)),
    ]
    selection = select(candidates, TERMS)
    assert selection.shipped == ("float",)
    assert _verdicts(selection)[1] == ("int8", "rejected")
    assert _reasons(selection)["int8"] == AccuracyDropTooLarge(points=1.5, allowed=1.0)
    assert _reasons(selection)["float"] == ChosenFastest()


@pytest.mark.parametrize(("correct", "shipped"), [(178, True), (190, True), (177, False)])
def test_select_allows_the_budget_itself_and_a_gain(correct: int, shipped: bool) -> None:
    candidates = [
        replace(_candidate("float"), accuracy=_accuracy(180)),
        replace(_candidate("int8"), accuracy=_accuracy(correct)),
    ]
    assert ("int8" in select(candidates, TERMS).shipped) == shipped


def test_select_ships_every_candidate_to_a_target_that_was_not_timed() -> None:
    candidates = [
        replace(_candidate("int8", "tensorrt", "int8"), accuracy=_accuracy(180)),
        replace(_candidate("half", "tensorrt", "fp16"), accuracy=_accuracy(180)),
    ]
    selection = select(candidates, TERMS)
    assert selection.shipped == ("int8", "half")
    assert not selection.is_timed
    assert _verdicts(selection) == [("int8", "candidate"), ("half", "candidate")]
    assert set(_reasons(selection).values()) == {DecidedOnDevice()}


QUICK = {"half": 4.0, "slow": 6.0, "int8": 1.0, "int8-slow": 2.0, "int8-slower": 9.0}


def _of_unknown_accuracy(names: Sequence[str] = tuple(QUICK)) -> list[Candidate]:
    """Candidates that agree with PyTorch and were timed, on data whose labels are not the model's."""
    return [
        _candidate(
            name,
            "onnxruntime" if "slow" in name else "openvino",
            "int8" if "int8" in name else "fp16",
            ms=QUICK[name],
        )
        for name in names
    ]


def test_select_places_int8_of_unknown_accuracy_after_float() -> None:
    selection = select(_of_unknown_accuracy(), UNMEASURED)
    assert selection.shipped == ("half", "slow", "int8")
    verdicts, reasons = dict(_verdicts(selection)), _reasons(selection)
    assert (verdicts["half"], reasons["half"]) == ("chosen", ChosenFastest(unknown_accuracy="int8-not-preferred"))
    assert verdicts["int8"] == "candidate"
    assert reasons["int8"] == SlowerThanChosen(chosen="half", ratio=0.25, accuracy_unknown=True)
    assert verdicts["int8-slow"] == "rejected"
    assert reasons["int8-slow"] == SlowerThanChosen(chosen="half", ratio=0.5, accuracy_unknown=True)


def test_select_leaves_out_int8_of_unknown_accuracy_that_is_no_faster() -> None:
    selection = select(_of_unknown_accuracy(("half", "int8-slower")), UNMEASURED)
    assert selection.shipped == ("half",)
    assert _reasons(selection)["int8-slower"] == SlowerThanChosen(chosen="half", ratio=2.25, accuracy_unknown=True)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (replace(UNMEASURED, int8_requested=True), ChosenFastest(unknown_accuracy="not-measured")),
        (replace(UNMEASURED, trained=False), ChosenFastest(unknown_accuracy="random-weights")),
    ],
)
def test_select_chooses_requested_int8_and_says_that_its_accuracy_is_unknown(
    terms: Terms, reason: ChosenFastest
) -> None:
    selection = select(_of_unknown_accuracy(), terms)
    assert selection.shipped == ("int8", "int8-slow")
    assert _reasons(selection)["int8"] == reason


def test_select_gives_no_int8_of_unknown_accuracy_to_a_device_that_only_times() -> None:
    graph = _candidate("int8", "tensorrt", "int8")
    candidates = [graph, _candidate("half", "tensorrt", "fp16"), _engine("e", graph)]
    selection = select(candidates, UNMEASURED)
    assert selection.shipped == ("half", "e")  # that engine is FP16
    assert _reasons(selection)["int8"] == AccuracyUnknown()
    assert _reasons(selection)["half"] == DecidedOnDevice(unknown_accuracy="not-measured")
    assert select(candidates, replace(UNMEASURED, trained=False)).shipped == ("int8", "half", "e")
    assert select(candidates[:1], replace(UNMEASURED, int8_requested=True)).shipped == ("int8",)


@pytest.mark.parametrize("ms", [None, 1.0])
def test_select_ships_int8_of_unknown_accuracy_if_nothing_else_is_left(ms: float | None) -> None:
    candidates = [
        _candidate("half", precision="fp16", agrees=False, ms=ms),
        _candidate("int8", precision="int8", ms=ms),
    ]
    selection = select(candidates, UNMEASURED)
    assert selection.shipped == ("int8",)
    reason = _reasons(selection)["int8"]
    assert isinstance(reason, ChosenFastest | DecidedOnDevice)
    assert reason.unknown_accuracy == "not-measured"


def test_an_engine_follows_the_graph_that_it_was_compiled_from() -> None:
    good, bad = _candidate("a"), _candidate("b", agrees=False)
    selection = select([_engine("engine-a", good), _engine("engine-b", bad), good, bad], UNMEASURED)
    assert selection.shipped == ("engine-a", "a")
    reasons = _reasons(selection)
    assert isinstance(reasons["engine-b"], ParityTooLow)
    assert reasons["engine-b"] == reasons["b"]
    assert selection.candidates[0].parity is None  # the engine was not run here, and borrows no figure


def test_select_rejects_what_disagrees_does_not_run_or_was_not_compared() -> None:
    candidates = [
        _candidate("good"),
        _candidate("off", agrees=False),
        replace(_candidate("broken"), parity=None, run_error="out of memory"),
        replace(_candidate("elsewhere"), parity=None),
    ]
    selection = select(candidates, UNMEASURED)
    assert selection.shipped == ("good",)
    reasons = _reasons(selection)
    assert isinstance(reasons["off"], ParityTooLow)
    assert (reasons["off"].snr_db, reasons["off"].snr_limit_db) == (1.5, 10.0)
    assert reasons["broken"] == RunFailed(error="out of memory")
    assert reasons["elsewhere"] == NotCompared()


def test_nothing_to_ship_is_an_error_with_every_reason() -> None:
    candidates = [
        _candidate("off", agrees=False),
        replace(_candidate("broken"), parity=None, run_error="out of memory"),
        replace(_candidate("lossy"), accuracy=_accuracy(100)),
    ]
    with pytest.raises(ParityError) as caught:
        select(candidates, Terms(1.0, _accuracy(200), _accuracy(200)))
    assert caught.value.exit_code == 7
    for part in ("off: does not agree", "broken: does not run", "lossy: loses 50.0 points", "--max-drop"):
        assert part in str(caught.value)


@pytest.mark.parametrize("from_unpruned", [True, False])
def test_the_drop_counts_from_the_unpruned_model_after_fine_tuning(from_unpruned: bool) -> None:
    """The pruned model itself is 5 points below the unpruned model, its graphs lose nothing more."""
    candidate = replace(_candidate("float", ms=3.0), accuracy=_accuracy(180))
    reference = _accuracy(190) if from_unpruned else _accuracy(180)
    terms = Terms(1.0, reference, _accuracy(180), counts_from_unpruned=from_unpruned)
    if from_unpruned:
        with pytest.raises(ParityError, check=names("float: loses 5.0 points of top-1, 1.0 are allowed", "prune less")):
            select([candidate], terms)
        terms = replace(terms, max_drop_points=5.0)
    assert select([candidate], terms).shipped == ("float",)


def test_int8_is_inaccurate_if_every_backend_that_runs_it_is_refused() -> None:
    off = replace(_candidate("a", precision="int8", agrees=False), accuracy=())
    lossy = replace(_candidate("b", "onnxruntime", "int8"), accuracy=_accuracy(100))
    broken = replace(_candidate("d", "native", "int8"), parity=None, run_error="no kernel")
    assert inaccurate_int8([off], TERMS)
    assert inaccurate_int8([off, lossy, broken], TERMS)
    assert not inaccurate_int8([broken], TERMS)


def test_int8_that_one_backend_computes_accurately_is_accurate() -> None:
    """The graph is right and the kernels of the other backend are wrong: layers in float would be searched in vain."""
    off = replace(_candidate("a", precision="int8", agrees=False), accuracy=())
    good = replace(_candidate("c", "native", "int8"), accuracy=_accuracy(180))
    assert not inaccurate_int8([off, good], TERMS)


def test_int8_is_not_to_blame_if_pytorch_itself_exceeds_the_budget() -> None:
    off = _candidate("a", precision="int8", agrees=False)
    assert not inaccurate_int8([off], Terms(1.0, _accuracy(190), _accuracy(180)))


INEXACT = KernelsInexact(backend="openvino", clips=4, snr_db=7.0, snr_limit_db=20.0, exact_snr_db=28.6)


@pytest.mark.parametrize("agrees", [True, False])
def test_inexact_kernels_are_named_whether_or_not_the_result_agrees_with_pytorch(agrees: bool) -> None:
    inexact = replace(_candidate("openvino-int8", precision="int8", agrees=agrees), inexact=INEXACT)
    good = _candidate("openvino-fp32", ms=20.0)
    selection = select([inexact, good], TERMS)
    assert selection.shipped == ("openvino-fp32",)
    assert selection.candidates[0].reason == INEXACT
    assert not inexact.agrees


def test_inexact_kernels_call_for_no_mixed_precision() -> None:
    inexact = replace(_candidate("openvino-int8", precision="int8", agrees=False), inexact=INEXACT)
    assert not inaccurate_int8([inexact], TERMS)
    assert inaccurate_int8([inexact, _candidate("onnx-int8", "onnxruntime", "int8", agrees=False)], TERMS)
    with pytest.raises(ParityError, check=names("7.0 dB", "28.6 dB", "--precision auto")) as caught:
        select([inexact], TERMS)
    assert "--max-drop" not in str(caught.value)
