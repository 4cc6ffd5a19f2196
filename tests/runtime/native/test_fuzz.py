"""Mutated programs are refused or run cleanly: the short form of `make sanitize`."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.runtime.native.fuzz import check_mutation
from tests.runtime.native.making import NEEDS_ENGINE

pytestmark = NEEDS_ENGINE


@pytest.mark.slow
def test_mutated_programs_are_refused_or_run_cleanly() -> None:
    """An error that is no EdgeactError fails; an access outside the memory ends the process."""
    outcomes = Counter(check_mutation(number) for number in range(300))
    assert outcomes["refused"] > 100
    assert outcomes["ran"] > 30  # mutations that pass every check, or the C code would not be tested
