from __future__ import annotations

import pytest

from tests.benchmarks.padding import pruned, timed


@pytest.mark.slow
def test_timed_has_latencies_with_and_without_padding() -> None:
    latencies = timed(pruned("r3d-18", 0.07, 32, 32), 2)
    assert {"openvino-int8", "openvino-fp16"} <= set(latencies)
    assert all(before > 0 and after > 0 for before, after in latencies.values())
