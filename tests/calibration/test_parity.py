from __future__ import annotations

import math

import numpy as np
import pytest

from edgeact.calibration.parity import LIMITS, compare_logits
from edgeact.errors import InputError
from edgeact.precision import Precision
from tests.messages import names

RNG = np.random.default_rng(0)
REFERENCE = (3 * RNG.standard_normal((50, 10))).astype(np.float32)


def _with_snr(snr_db: float) -> np.ndarray:
    """Return REFERENCE with noise of exactly this SNR."""
    noise = RNG.standard_normal(REFERENCE.shape)
    signal = REFERENCE.astype(np.float64)
    noise *= math.sqrt((signal**2).sum() / (noise**2).sum() / 10 ** (snr_db / 10))
    return (signal + noise).astype(np.float32)


@pytest.mark.parametrize("precision", LIMITS)
def test_compare_logits_passes_equal_logits(precision: Precision) -> None:
    parity = compare_logits(REFERENCE, REFERENCE.copy(), precision)
    assert parity.passed
    assert parity.snr_db is None
    assert (parity.max_abs_error, parity.top1_agreement, parity.clips) == (0.0, 1.0, 50)


@pytest.mark.parametrize(("precision", "limit_db"), [("fp32", 80.0), ("fp16", 35.0), ("int8", 10.0)])
def test_compare_logits_limits_the_snr(precision: Precision, limit_db: float) -> None:
    """Other tests cover the largest error and the agreement."""
    above = compare_logits(REFERENCE, _with_snr(limit_db + 0.5), precision, trained=False)
    below = compare_logits(REFERENCE, _with_snr(limit_db - 0.5), precision, trained=False)
    assert above.snr_db == pytest.approx(limit_db + 0.5, abs=0.05)
    assert not below.passed
    assert above.passed or precision == "fp32"


def test_compare_logits_limits_the_largest_error_in_fp32() -> None:
    large = (1000 * REFERENCE).astype(np.float32)
    changed_logit = large.copy()
    changed_logit[3, 4] += 0.01
    parity = compare_logits(large, changed_logit, "fp32")
    assert parity.snr_db is not None
    assert parity.snr_db > 80
    assert not parity.passed
    assert compare_logits(large, changed_logit, "fp16").passed


@pytest.mark.parametrize(
    ("precision", "changed", "passed"),
    [
        ("int8", 9, True),  # a true agreement of 90 % gives 41 of 50 or less in 6 % of all samples
        ("int8", 11, False),
        ("fp16", 3, True),
        ("fp16", 4, False),
    ],
)
def test_compare_logits_limits_top1_agreement_if_significantly_low(
    precision: Precision, changed: int, passed: bool
) -> None:
    """Flip near ties, which changes top-1 but hardly the SNR."""
    reference = REFERENCE.copy()
    rows = np.arange(changed)
    order = np.argsort(reference, axis=1)
    reference[rows, order[rows, -2]] = reference[rows, order[rows, -1]] - 1e-4
    candidate = reference.copy()
    candidate[rows, order[rows, -2]] += 2e-4
    parity = compare_logits(reference, candidate, precision)
    assert parity.top1_agreement == pytest.approx(1 - changed / 50)
    assert parity.passed is passed
    untrained = compare_logits(reference, candidate, precision, trained=False)
    assert untrained.passed
    assert untrained.top1_agreement == parity.top1_agreement


def test_compare_logits_counts_a_tie_within_the_error_as_agreement_in_fp32() -> None:
    reference = np.array([[1.0, 1.00001, -3.0], [2.0, 0.0, 0.0]], np.float32)
    candidate = np.array([[1.00001, 1.0, -3.0], [2.0, 0.0, 0.0]], np.float32)
    assert compare_logits(reference, candidate, "fp32").top1_agreement == 1.0
    assert compare_logits(reference, candidate, "int8").top1_agreement == 0.5
    far = np.array([[1.5, 1.00001, -3.0], [2.0, 0.0, 0.0]], np.float32)
    assert not compare_logits(reference, far, "fp32").passed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_compare_logits_refuses_logits_that_are_not_finite(bad: float) -> None:
    broken = REFERENCE.copy()
    broken[1, 2] = bad
    with pytest.raises(InputError, check=names("logits of the artifact")):
        compare_logits(REFERENCE, broken, "int8")
    with pytest.raises(InputError, check=names("logits of PyTorch")):
        compare_logits(broken, REFERENCE, "int8")


def test_compare_logits_refuses_other_shapes() -> None:
    with pytest.raises(InputError, check=names("expected shape (50, 10), got (50, 9)")):
        compare_logits(REFERENCE, REFERENCE[:, :9], "fp32")
    with pytest.raises(InputError):
        compare_logits(REFERENCE[0], REFERENCE[0], "fp32")
