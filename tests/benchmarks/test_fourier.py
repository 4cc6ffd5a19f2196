from __future__ import annotations

import numpy as np
import pytest

from edgeact.clip import ClipSpec
from tests.benchmarks.fourier import forms, table

_CLIP = ClipSpec(clip_frames=2, fps=25.0, resize=(7, 7), crop=(7, 7), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.mark.slow
def test_forms_return_the_clip() -> None:
    x = np.random.default_rng(0).normal(size=_CLIP.input_shape).astype(np.float32)
    implementations = forms(_CLIP)
    assert len(implementations) == 4
    for form in implementations.values():
        np.testing.assert_allclose(form(x), x, atol=1e-5)


@pytest.mark.slow
def test_table_has_counts_and_latencies() -> None:
    lines = table(rounds=1, edges=(7,)).splitlines()
    assert [len(line.split("|")) for line in lines[:3]] == [9] * 3
    assert lines[2].startswith("| 7x7 | 0.7 | 2.4 | ")
