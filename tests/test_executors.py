from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edgeact.errors import DeviceError, UsageError
from edgeact.executors import Executors, SerialExecutor, open_executors
from tests.messages import names


def test_open_executors_runs_local_tasks_on_submission() -> None:
    with open_executors() as executors:
        assert executors.is_local
        future = executors.work.submit(divmod, 7, 2)
        assert future.done()
        assert future.result() == (3, 1)
        assert list(executors.timing.map(abs, [-1, 2])) == [1, 2]


def test_serial_executor_keeps_exceptions_and_propagates_interrupts() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with open_executors() as executors:
        failed = executors.work.submit(divmod, 1, 0)
        assert isinstance(failed.exception(), ZeroDivisionError)
        with pytest.raises(KeyboardInterrupt):
            executors.work.submit(interrupted)


def test_executors_accepts_any_executor() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert not Executors(pool, pool, 2).is_local
    assert Executors(SerialExecutor(), SerialExecutor()).is_local


@pytest.mark.parametrize("spec", ["", "dask", "dask://", "dask://host", "tcp://host:1", "dask://ho st:1"])
def test_open_executors_refuses_other_specs(spec: str) -> None:
    with pytest.raises(UsageError):
        open_executors(spec).__enter__()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A scheduler with one worker, which is not for timing."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0, silence_logs=50
    ) as local:
        yield local


def test_open_executors_of_a_cluster_needs_a_worker_for_timing(cluster: Any) -> None:
    spec = cluster.scheduler_address.replace("tcp://", "dask://")
    with open_executors(spec) as executors:
        assert executors.work.submit(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(UsageError, check=names("--resources 'timing=1'")):
        open_executors(spec, timing=True).__enter__()


def test_open_executors_refuses_a_cluster_without_workers() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=":0", silence_logs=50) as cluster,
        pytest.raises(DeviceError, check=names("has no worker")),
    ):
        open_executors(cluster.scheduler_address.replace("tcp://", "dask://")).__enter__()
