"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.sharing import FOLDER_VARIABLE

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job, and so would be every child of it
    signal.signal(signal.SIGINT, signal.default_int_handler)


if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):  # before torch reads it
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# The same examples in every run, and no limit on the time of one: a change is judged by itself, not by chance or load.
# `pytest --hypothesis-profile=default` draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a folder and a cache that its worker processes share and that are not the user's."""
    if hasattr(config, "workerinput"):
        return
    folder = tempfile.mkdtemp(prefix="edgeact-tests-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ[FOLDER_VARIABLE] = folder
    os.environ["EDGEACT_CACHE"] = str(Path(folder) / "cache")


@pytest.fixture(scope="session")
def run_cache() -> Path:
    """The cache of the whole test run: what is rendered or computed there serves every test that asks for it."""
    return Path(os.environ[FOLDER_VARIABLE]) / "cache"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the measurement videos, which are never part of the repository; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the measurement videos (../shared/data) are not beside this checkout")
    return folder
