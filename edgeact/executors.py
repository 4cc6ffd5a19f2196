"""Executors for long work: this process, or the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, TypeVar

from edgeact.errors import DeviceError, UsageError
from edgeact.extras import require

__all__ = ["LOCAL", "TIMING", "Executors", "SerialExecutor", "open_executors", "workers_died"]

_Result = TypeVar("_Result")

LOCAL = "local"
TIMING = "timing"
"""The Dask resource of workers for timing: one worker per machine, on identical machines."""

_ADDRESS = re.compile(r"dask://([\w.-]+|\[[0-9a-fA-F:]+\]):\d+")
_CONNECT_S = 10


class SerialExecutor(Executor):
    """Executor that runs each task on submission, in the thread of the caller; its futures are done."""

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """Run `fn` now; its exception becomes that of the future, a KeyboardInterrupt propagates."""
        future: Future[_Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # raised again by `Future.result`
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class Executors:
    """Executors for work and for timing; they may be the same."""

    work: Executor
    timing: Executor
    slots: int = 1
    """Number of tasks that run at the same time."""

    @property
    def is_local(self) -> bool:
        """Whether timing runs in this process."""
        return isinstance(self.timing, SerialExecutor)


@contextlib.contextmanager
def open_executors(spec: str = LOCAL, *, timing: bool = False) -> Iterator[Executors]:
    """Open the executors of `spec`: 'local' or 'dask://HOST:PORT'; with `timing`, a worker needs the resource TIMING.

    Raises UsageError for another spec or for a cluster without such a worker, MissingExtraError if distributed is not
    installed, DeviceError if no scheduler answers or if it has no worker.
    """
    if spec == LOCAL:
        serial = SerialExecutor()
        yield Executors(serial, serial)
        return
    if not _ADDRESS.fullmatch(spec):
        raise UsageError(f"expected --executor local or dask://HOST:PORT, got '{spec}'")
    distributed = require("distributed", "cluster")
    try:
        client = distributed.Client(spec.replace("dask://", "tcp://"), timeout=_CONNECT_S, set_as_default=False)
    except OSError as error:
        raise DeviceError(
            f"no Dask scheduler answers at '{spec}'; start one with: dask scheduler --port {spec.rpartition(':')[2]}"
        ) from error
    with client:
        yield _cluster_executors(client, spec, timing)


def workers_died(error: BaseException) -> bool:
    """Return whether a task failed because it killed the workers of a Dask cluster, several in a row."""
    distributed = sys.modules.get("distributed")  # not a dependency here: loaded if a cluster is in use
    return distributed is not None and isinstance(error, distributed.KilledWorker)


def _cluster_executors(client: Any, spec: str, timing: bool) -> Executors:
    """Return executors of a Dask client; Dask itself moves the task of a lost worker to another worker."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise DeviceError(f"the Dask scheduler at '{spec}' has no worker; start one with: dask worker HOST:PORT")
    slots = len(workers)
    work = client.get_executor(pure=False, retries=0)
    if not timing:
        return Executors(work, work, slots)
    if not any(worker["resources"].get(TIMING) for worker in workers):
        raise UsageError(
            f"the cluster at '{spec}' has no worker for timing; on each machine of the target's kind start one with: "
            f"dask worker HOST:PORT --nthreads 1 --resources '{TIMING}=1'"
        )
    return Executors(work, client.get_executor(pure=False, retries=0, resources={TIMING: 1}), slots)
