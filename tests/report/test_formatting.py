from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.phrases import phrase
from edgeact.reasons import AccuracyDropTooLarge
from edgeact.records import Parity
from edgeact.report import formatting
from tests.bench.making import make_record
from tests.report.making import make_accuracy, make_accuracy_record, make_latency, make_parity, make_rows


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.0123"), (0.5, "0.500"), (4.271, "4.27"), (16.14, "16.1"), (368.5, "368"), (1234.4, "1234"), (0, "0")],
)
def test_ms_has_three_significant_digits(value: float, text: str) -> None:
    assert formatting.ms(value) == text


@given(st.floats(0.001, 1e6))
def test_ms_is_exact_to_the_last_digit(value: float) -> None:
    assert float(formatting.ms(value)) == pytest.approx(value, rel=0.0051, abs=0.00005)


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 B"), (1000, "1.0 kB"), (7_940_000, "7.9 MB"), (3_200_000_000, "3.2 GB")]
)
def test_bytes_text_uses_decimal_units(size: int, text: str) -> None:
    assert formatting.bytes_text(size) == text


def test_missing_values_are_not_available() -> None:
    assert str(formatting.parity_text(None)) == "n/a"
    assert str(formatting.top1_text(None)) == "n/a"
    assert formatting.tail_text(None) == "n/a"


def test_latency_text_labels_an_estimate() -> None:
    assert str(formatting.latency_text(make_rows()[-1])) == "≈ 1.83 ms estimate"


def test_p50_text_and_top1_text_have_the_confidence_interval() -> None:
    latency = make_latency(4.0)
    assert str(formatting.p50_text(latency)) == f"{latency.p50_ms:.2f} ms [3.98, 4.02]"
    assert str(formatting.top1_text(make_accuracy(0.95))) == "93.8 % [91.6, 95.7], n = 480"


def test_parity_text_of_failure_and_exact_agreement() -> None:
    assert formatting.parity_text(make_parity(passed=False)).main == "FAIL"
    same: Parity = make_parity().model_copy(update={"snr_db": None, "max_abs_error": 0.0})
    assert "no error" in str(formatting.parity_text(same))


def test_reason_text_prefers_the_typed_reason() -> None:
    row = make_rows()[4]
    assert formatting.reason_text(row) == row.reason
    typed = row.model_copy(update={"typed_reason": AccuracyDropTooLarge(points=2.5, allowed=1.0)})
    assert formatting.reason_text(typed) == phrase(AccuracyDropTooLarge(points=2.5, allowed=1.0)) != row.reason


def test_latency_facts_have_notes_threads_and_missing_percentiles() -> None:
    facts = formatting.latency_facts(make_record(notes=("the CPU clock changed",), threads=1))
    assert facts["notes"] == "the CPU clock changed"
    assert facts["runs on"] == "openvino on CPU, 1 thread"
    assert facts["p99"] == "n/a"


def test_accuracy_facts_have_a_row_for_each_level() -> None:
    record = make_accuracy_record()
    clips, videos = formatting.accuracy_facts(record)
    assert [clips["level"], videos["level"]] == ["clip", "video"]
    assert [clips["count"], videos["count"]] == ["480", "240"]
    assert clips["top-1"] == str(formatting.top1_text(record.accuracy[0])).removesuffix(", n = 480")
    assert clips["data"] == "stick-actions test"
    assert clips["videos skipped"] == "no frame could be decoded: 2"
    assert clips["irregular videos used"] == "variable frame rate: 3"
    assert clips["machine"] == "intel-cpu (Intel Xeon Platinum 8481C)"
    plain = record.accuracy[0].model_copy(update={"skipped": {}, "handled": {}})
    (facts,) = formatting.accuracy_facts(record.model_copy(update={"accuracy": (plain,)}))
    assert (facts["videos skipped"], facts["irregular videos used"]) == ("none", "none")
