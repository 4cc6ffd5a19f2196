"""The exclusion rule: known layers of 3-D networks, and equality with the rule of Model Optimizer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.export.quantize.tensorrt_rules import int8_exclusion_reason

SIZES = st.sampled_from([1, 2, 3, 4, 8, 12, 15, 16, 24, 31, 32, 64])
KERNELS = st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("shape", "group", "is_first", "requirement"),
    [
        ((64, 64, 3, 3, 3), 1, False, None),
        ((64, 3, 3, 3, 3), 1, True, None),
        ((64, 3, 3, 7, 7), 1, True, "cubic-kernel"),
        ((64, 3, 1, 7, 7), 1, True, "cubic-kernel"),
        ((1, 2, 7, 7, 7), 1, False, "channel-multiple"),
        ((8, 3, 3, 3, 3), 1, True, None),
        ((8, 3, 3, 3, 3), 1, False, "sixteen-channels"),
        ((64, 1, 3, 3, 3), 64, False, None),
        ((64, 1, 3, 1, 1), 64, False, "grouped-kernel"),
        ((60, 1, 3, 3, 3), 60, False, "grouped-kernel"),
        (None, 1, False, "constant-weight"),
    ],
)
def test_layers_of_real_networks(
    shape: tuple[int, ...] | None, group: int, is_first: bool, requirement: str | None
) -> None:
    reason = int8_exclusion_reason(shape, group, is_first)
    assert (reason.requirement if reason else None) == requirement
    if reason and shape:
        assert (reason.outputs, reason.inputs, *reason.kernel) == shape


@given(SIZES, SIZES, KERNELS, st.sampled_from([1, 2, 16]), st.booleans())
def test_the_rule_equals_that_of_model_optimizer(
    outputs: int, inputs: int, kernel: list[int], group: int, is_first: bool
) -> None:
    plain = (
        group == 1
        and (outputs % 8 == 0 or inputs % 8 == 0)
        and (is_first or outputs >= 16 or inputs >= 16)
        and all(side == kernel[0] for side in kernel)
    )
    grouped = group > 1 and outputs % 8 == 0 and all(side >= 3 for side in kernel)
    quantizes = (outputs >= 16 and inputs >= 16) or plain or grouped
    assert (int8_exclusion_reason((outputs, inputs, *kernel), group, is_first) is None) == quantizes
