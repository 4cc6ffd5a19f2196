from __future__ import annotations

import numpy as np
import torch

from tests.benchmarks.rate import openvino_product, torch_product
from tests.benchmarks.records import BenchRow


def test_torch_product_is_an_integer_product() -> None:
    result = torch_product(64)()
    assert isinstance(result, torch.Tensor)
    assert (result.dtype, result.shape) == (torch.int32, (64, 64))


def test_openvino_product_equals_the_integer_product() -> None:
    (result,) = openvino_product(64, 1)().values()  # type: ignore[attr-defined]
    weights = np.random.default_rng(0).integers(-127, 128, (64, 64))
    expected = np.clip(np.round(weights.sum(axis=1) * 1e-4 * 10), -128, 127)
    assert result.dtype == np.int8
    np.testing.assert_allclose(result[0], expected, atol=1)


def test_bench_row_judged_with_a_lower_limit() -> None:
    row = BenchRow(name="rate", value=0.7, unit="", comparison=">=", how="a test")
    assert row.judged(0.9, applies=True).passed is False
    assert row.judged(0.6, applies=True).passed is True
