from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from edgeact.errors import EdgeactError
from tests.benchmarks.processes import run_child
from tests.messages import names

_HOLD = "import sys; held = bytearray(b'x' * (100 << 20)); print(len(held))"


@pytest.mark.slow
def test_run_child_measures_the_peak_memory_of_the_child_only() -> None:
    large = np.ones(400 << 20, np.uint8)  # as much as a benchmark with all libraries loaded
    child = run_child([sys.executable, "-S", "-c", _HOLD], cores=1)
    assert large.nbytes > child.peak_bytes
    assert 100 << 20 <= child.peak_bytes < 250 << 20
    assert child.output.strip() == str(100 << 20)


def test_run_child_peak_memory_includes_grandchildren() -> None:
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {_HOLD!r}], check=True)"
    assert run_child([sys.executable, "-S", "-c", nested], cores=1).peak_bytes >= 100 << 20


def test_run_child_measures_the_wall_time_of_the_child() -> None:
    assert 0.2 <= run_child([sys.executable, "-S", "-c", "import time; time.sleep(0.2)"], cores=1).wall_s < 20


def test_run_child_uses_the_given_number_of_cores() -> None:
    program = "import os; print(len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS'])"
    assert run_child([sys.executable, "-c", program], cores=1).output.split() == ["1", "1"]
    assert len(os.sched_getaffinity(0)) == (os.cpu_count() or 1)  # those of this process do not change


def test_run_child_reports_why_the_child_failed() -> None:
    with pytest.raises(EdgeactError, check=names("exit code 3", "the reason")):
        run_child([sys.executable, "-c", "import sys; print('the reason', file=sys.stderr); sys.exit(3)"], cores=1)


def test_run_child_treats_a_killed_child_as_a_failure() -> None:
    with pytest.raises(EdgeactError, check=names("exit code 137")):
        run_child([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], cores=1)
