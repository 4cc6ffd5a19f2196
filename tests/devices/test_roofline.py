from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.devices import DENSE, GROUPED, estimate_latency_ms, list_profiles, load_profile
from edgeact.errors import UsageError
from edgeact.precision import Precision
from tests.messages import names

_COUNTS = st.integers(min_value=0, max_value=10**13)
_PRECISIONS = st.sampled_from(["fp32", "fp16", "int8"])
_RATED = st.sampled_from(
    [p.id for p in map(load_profile, list_profiles()) if p.fp32_tflops and p.int8_tops_dense and p.bandwidth_gb_per_s]
)


@given(_RATED, _COUNTS, _COUNTS, _COUNTS, _PRECISIONS)
def test_more_work_never_takes_less_time(name: str, macs: int, moved: int, more: int, precision: Precision) -> None:
    profile = load_profile(name)
    base = estimate_latency_ms(profile, macs, moved, precision)
    more_macs = estimate_latency_ms(profile, macs + more, moved, precision)
    more_bytes = estimate_latency_ms(profile, macs, moved + more, precision)

    assert base is not None
    assert more_macs is not None
    assert more_bytes is not None
    assert more_macs.latency_ms >= base.latency_ms >= 0
    assert more_bytes.latency_ms >= base.latency_ms


@given(_RATED, _COUNTS, _COUNTS, _PRECISIONS)
def test_twice_the_work_takes_twice_the_time(name: str, macs: int, moved: int, precision: Precision) -> None:
    profile = load_profile(name)
    once = estimate_latency_ms(profile, macs, moved, precision)
    twice = estimate_latency_ms(profile, 2 * macs, 2 * moved, precision)

    assert once is not None
    assert twice is not None
    assert twice.bound == once.bound
    assert twice.latency_ms == pytest.approx(2 * once.latency_ms)


def test_the_anchor_is_reproduced() -> None:
    """3-D ResNet-18 on a TX2 in FP32, arXiv 1904.02422: 17 clips/s were measured."""
    estimate = estimate_latency_ms(load_profile("tx2"), 8_323_000_000 // 2, 33_400_000 * 4, "fp32")

    assert estimate is not None
    assert estimate.bound == "compute"
    assert estimate.utilization == DENSE.fp32
    assert estimate.latency_ms == pytest.approx(1000 / 17, rel=0.02)


def test_memory_bounds_a_net_that_only_moves_bytes() -> None:
    estimate = estimate_latency_ms(load_profile("orin-nano-8gb"), 0, 51_000_000, "int8")

    assert estimate is not None
    assert (estimate.bound, estimate.utilization) == ("memory", 0.5)
    assert estimate.latency_ms == pytest.approx(1.0)


def test_grouped_networks_are_estimated_far_slower() -> None:
    profile = load_profile("tx2")
    dense = estimate_latency_ms(profile, 10**9, 0, "fp32")
    grouped = estimate_latency_ms(profile, 10**9, 0, "fp32", GROUPED)

    assert dense is not None
    assert grouped is not None
    assert grouped.latency_ms / dense.latency_ms == pytest.approx(0.21 / 0.004)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("nano", "int8"), ("tx2", "int8"), ("intel-cpu", "fp32"), ("thor-t4000", "fp32"), ("h100-pcie", "fp16")],
)
def test_no_estimate_without_the_peaks(name: str, precision: Precision) -> None:
    assert estimate_latency_ms(load_profile(name), 10**9, 10**6, precision) is None


@pytest.mark.parametrize(("macs", "moved"), [(-1, 0), (0, -1)])
def test_negative_counts_are_refused(macs: int, moved: int) -> None:
    with pytest.raises(UsageError, check=names("expected 0 or more")):
        estimate_latency_ms(load_profile("nano"), macs, moved, "fp32")
