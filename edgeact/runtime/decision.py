"""Deciding between a bundle's artifacts by timing them on this device, once."""

from __future__ import annotations

import contextlib
import json
import logging
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgeact.errors import DeviceError, ModelError, StorageError
from edgeact.runtime.caches import key_digest
from edgeact.runtime.choice import Candidate
from edgeact.runtime.session import Session
from edgeact.storage import cache_folder, write_text

__all__ = ["decide"]

log = logging.getLogger("edgeact.runtime")

_WARMUP_RUNS = 3
_RUNS = 9

Times = dict[str, float]


def decide(
    candidates: list[Candidate], key: Mapping[str, str], open_candidate: Callable[[Candidate], Session]
) -> tuple[list[Candidate], str]:
    """Candidates with the fastest artifact of the first one's backend in front, and what was decided in words.

    Timed at the first load and remembered under `key`, the machine and the backend's version. One that does not open
    is left where it is.
    """
    rivals = [one for one in candidates if one.backend.name == candidates[0].backend.name] if candidates else []
    if len(rivals) < 2:
        return candidates, ""
    path = _path(rivals, key)
    times = _remembered(path)
    if times is None:
        times = {one.artifact.name: median for one in rivals if (median := _median_ms(one, open_candidate)) is not None}
        _remember(path, times)
    if not times:
        return candidates, ""
    fastest = min(times, key=lambda name: times[name])
    listed = ", ".join(f"{name} {milliseconds:.2f} ms" for name, milliseconds in times.items())
    ordered = sorted(candidates, key=lambda one: not (one in rivals and one.artifact.name == fastest))
    return ordered, f"decided on this device, median of {_RUNS} runs: {listed}"


def _median_ms(candidate: Candidate, open_candidate: Callable[[Candidate], Session]) -> float | None:
    log.info("timing %s on %s", candidate.artifact.name, candidate.backend.name)
    try:
        with open_candidate(candidate) as session:
            clip = np.random.default_rng(0).standard_normal(session.input_shape, dtype=np.float32)
            times_ms = [session.run(clip).inference_ms for _ in range(_WARMUP_RUNS + _RUNS)]
    except (DeviceError, ModelError) as error:
        log.warning("%s cannot be timed: %s", candidate.artifact.name, error)
        return None
    return statistics.median(times_ms[_WARMUP_RUNS:])


def _path(rivals: list[Candidate], key: Mapping[str, str]) -> Path:
    from edgeact.devices import probe_machine  # here, because few starts decide and every import counts on a board

    backend = rivals[0].backend
    whole = {
        **key,
        "machine": probe_machine(()).fingerprint,
        "backend": f"{backend.name} {backend.version()}",
        "artifacts": " ".join(sorted(one.artifact.name for one in rivals)),
    }
    return cache_folder() / "decisions" / f"{key_digest(whole)}.json"


def _remembered(path: Path) -> Times | None:
    """What was measured before; None where nothing readable is there."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        times = json.loads(path.read_text()).items()
        return {str(name): float(value) for name, value in times}
    return None


def _remember(path: Path, times: Times) -> None:
    try:
        write_text(path, json.dumps(times))
    except StorageError as error:  # the next start measures again, this one goes on
        log.warning("the decision is not remembered: %s", error)
