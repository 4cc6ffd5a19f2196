from __future__ import annotations

import shutil
from importlib.util import find_spec

import pytest

from tests.benchmarks.kernel import products_per_second
from tests.runtime.native.making import ISAS


@pytest.mark.timing
@pytest.mark.skipif("avx2" not in ISAS, reason="this processor has no AVX2")
@pytest.mark.skipif(not (find_spec("ziglang") or shutil.which("cc")), reason="there is no C compiler")
def test_a_core_does_billions_of_products_a_second() -> None:
    assert 1e9 < products_per_second() < 1e13
