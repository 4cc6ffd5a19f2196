"""The comparison of padded channels, on a network small enough for a test."""

from __future__ import annotations

from tests.benchmarks.padding import pruned, timed


def test_every_artifact_is_timed_with_and_without() -> None:
    found = timed(pruned("r3d-18", 0.07, 32, 32), 2)
    assert {"openvino-int8", "openvino-fp16"} <= set(found)
    assert all(before > 0 and after > 0 for before, after in found.values())
