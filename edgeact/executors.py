"""Where long work runs: in this process, or on the workers of a Dask cluster; any executor serves as well."""

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
"""The Dask resource of workers that may time: one a machine, on machines that are alike."""

_ADDRESS = re.compile(r"dask://([\w.-]+|\[[0-9a-fA-F:]+\]):\d+")
_CONNECT_S = 10


class SerialExecutor(Executor):
    """Runs every task when it is submitted, in the caller's thread; its futures are done."""

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """Run `fn` now; what it raises is the future's exception, an interruption is passed on."""
        future: Future[_Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # whatever it raises belongs to whoever asks for the result
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class Executors:
    """Who does the work and who times; the same where one does both."""

    work: Executor
    timing: Executor
    slots: int = 1
    """How many tasks run at once."""

    @property
    def is_local(self) -> bool:
        """Whether timing happens in this very process."""
        return isinstance(self.timing, SerialExecutor)


@contextlib.contextmanager
def open_executors(spec: str = LOCAL, *, timing: bool = False) -> Iterator[Executors]:
    """'local' or 'dask://HOST:PORT'; with `timing` at least one worker of a cluster must have the resource for it.

    Raises UsageError for another spec and for a cluster without such a worker, MissingExtraError without distributed,
    DeviceError where there is no scheduler or it has no worker.
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
        yield _of_cluster(client, spec, timing)


def workers_died(error: BaseException) -> bool:
    """Return whether a task failed because it killed the workers of a Dask cluster, several in a row."""
    distributed = sys.modules.get("distributed")  # not a dependency here: loaded if a cluster is in use
    return distributed is not None and isinstance(error, distributed.KilledWorker)


def _of_cluster(client: Any, spec: str, timing: bool) -> Executors:
    """A task of a worker that is lost goes to another one by itself; results come once."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise DeviceError(f"the Dask scheduler at '{spec}' has no worker; start one with: dask worker HOST:PORT")
    slots = len(workers)
    work = client.get_executor(pure=False, retries=0)
    if not timing:
        return Executors(work, work, slots)
    if not any(worker["resources"].get(TIMING) for worker in workers):
        raise UsageError(
            f"no worker at '{spec}' may time: on every machine of the target's kind start one with: "
            f"dask worker HOST:PORT --nthreads 1 --resources '{TIMING}=1'"
        )
    return Executors(work, client.get_executor(pure=False, retries=0, resources={TIMING: 1}), slots)
