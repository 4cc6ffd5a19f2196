from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.records import Parity
from edgeact.report import formatting
from tests.bench.making import make_record
from tests.report.making import LABELS, make_accuracy, make_accuracy_record, make_latency, make_parity, make_rows


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.0123"), (0.5, "0.500"), (4.271, "4.27"), (16.14, "16.1"), (368.5, "368"), (1234.4, "1234"), (0, "0")],
)
def test_milliseconds_have_three_significant_digits(value: float, text: str) -> None:
    assert formatting.ms(value) == text


@given(st.floats(0.001, 1e6))
def test_milliseconds_are_never_off_by_more_than_the_last_digit(value: float) -> None:
    assert float(formatting.ms(value)) == pytest.approx(value, rel=0.0051, abs=0.00005)


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 B"), (1000, "1.0 kB"), (7_940_000, "7.9 MB"), (3_200_000_000, "3.2 GB")]
)
def test_sizes(size: int, text: str) -> None:
    assert formatting.bytes_text(size) == text


def test_what_is_missing_is_said_to_be() -> None:
    assert str(formatting.parity_text(None)) == "n/a"
    assert str(formatting.top1_text(None)) == "n/a"
    assert formatting.tail_text(None) == "n/a"


def test_an_estimate_is_called_one() -> None:
    assert str(formatting.latency_text(make_rows()[-1])) == "≈ 1.83 ms estimate"


def test_a_measurement_carries_its_interval() -> None:
    latency = make_latency(4.0)
    assert str(formatting.p50_text(latency)) == f"{latency.p50_ms:.2f} ms [3.98, 4.02]"
    assert str(formatting.top1_text(make_accuracy(0.95))) == "93.8 % [91.6, 95.7], n = 480"


def test_parity_tells_failure_and_perfect_agreement() -> None:
    assert formatting.parity_text(make_parity(passed=False)).main == "FAIL"
    same: Parity = make_parity().model_copy(update={"snr_db": None, "max_abs_error": 0.0})
    assert "no error" in str(formatting.parity_text(same))


def test_mistakes_come_by_number_and_leave_out_what_is_right() -> None:
    found = formatting.mistakes(("a", "b", "c"), ((5, 1, 0), (0, 9, 0), (3, 2, 4)))
    assert found == [("c", "a", 3, 9), ("c", "b", 2, 9), ("a", "b", 1, 6)]
    assert len(formatting.mistakes(LABELS, make_accuracy(0.9).confusion, limit=4)) == 4


def test_record_facts_hold_what_makes_a_number_less_sure() -> None:
    facts = formatting.latency_facts(make_record(notes=("the CPU clock moved",), threads=1))
    assert facts["notes"] == "the CPU clock moved"
    assert facts["runs on"] == "openvino on CPU, 1 thread"
    assert facts["p99"] == "n/a"


def test_accuracy_facts_hold_a_row_for_every_level() -> None:
    record = make_accuracy_record()
    clips, videos = formatting.accuracy_facts(record)
    assert [clips["level"], videos["level"]] == ["clip", "video"]
    assert [clips["count"], videos["count"]] == ["480", "240"]
    assert clips["top-1"] == str(formatting.top1_text(record.accuracy[0])).removesuffix(", n = 480")
    assert clips["data"] == "stick-actions test"
    assert clips["videos left out"] == "no frame could be decoded: 2"
    assert clips["odd videos used"] == "variable frame rate: 3"
    assert clips["machine"] == "intel-cpu (Intel Xeon Platinum 8481C)"
    plain = record.accuracy[0].model_copy(update={"skipped": {}, "handled": {}})
    (facts,) = formatting.accuracy_facts(record.model_copy(update={"accuracy": (plain,)}))
    assert (facts["videos left out"], facts["odd videos used"]) == ("none", "none")
