"""Decision between a bundle's artifacts by timing them on this device, once."""

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

Latencies = dict[str, float]


def decide(
    candidates: list[Candidate], key: Mapping[str, str], open_candidate: Callable[[Candidate], Session]
) -> tuple[list[Candidate], str]:
    """Move the artifact that is fastest here to the front of the candidates; return them and the decision in words.

    Compares the artifacts of the first candidate's backend. The first call times each of them, which takes seconds, or
    minutes if a backend builds engines; the logger `edgeact.runtime` announces each at level INFO. The medians are kept
    for later calls with the same `key`, machine and backend version. An artifact that does not open keeps its place.
    """
    rivals = [each for each in candidates if each.backend.name == candidates[0].backend.name]
    if len(rivals) < 2:
        return candidates, ""
    path = _path(rivals, key)
    medians_ms = _read(path)
    if medians_ms is None:
        medians_ms = _time_all(rivals, open_candidate)
        _write(path, medians_ms)
    if not medians_ms:
        return candidates, ""
    fastest = min(medians_ms, key=medians_ms.__getitem__)
    listed = ", ".join(f"{name} {median_ms:.2f} ms" for name, median_ms in medians_ms.items())
    ordered = sorted(candidates, key=lambda each: not (each in rivals and each.artifact.name == fastest))
    return ordered, f"decided on this device, median of {_RUNS} runs: {listed}"


def _time_all(candidates: list[Candidate], open_candidate: Callable[[Candidate], Session]) -> Latencies:
    medians_ms = {}
    for index, candidate in enumerate(candidates, start=1):
        name = candidate.artifact.name
        backend = candidate.backend.name
        log.info("timing %s on %s, once for this device (%d of %d)", name, backend, index, len(candidates))
        try:
            medians_ms[name] = _median_ms(candidate, open_candidate)
        except (DeviceError, ModelError) as error:
            log.warning("%s cannot be timed: %s", name, error)
    return medians_ms


def _median_ms(candidate: Candidate, open_candidate: Callable[[Candidate], Session]) -> float:
    with open_candidate(candidate) as session:
        clip = np.random.default_rng(0).standard_normal(session.input_shape, dtype=np.float32)
        times_ms = [session.run(clip).inference_ms for _ in range(_WARMUP_RUNS + _RUNS)]
    return statistics.median(times_ms[_WARMUP_RUNS:])


def _path(rivals: list[Candidate], key: Mapping[str, str]) -> Path:
    from edgeact.devices import probe_machine  # here, because few starts decide and every import counts on a board

    backend = rivals[0].backend
    full_key = {
        **key,
        "machine": probe_machine(()).fingerprint,
        "backend": f"{backend.name} {backend.version()}",
        "artifacts": " ".join(sorted(each.artifact.name for each in rivals)),
    }
    return cache_folder() / "decisions" / f"{key_digest(full_key)}.json"


def _read(path: Path) -> Latencies | None:
    """Return earlier medians, or None if the file does not exist or is not readable."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        medians_ms = json.loads(path.read_text()).items()
        return {str(name): float(median_ms) for name, median_ms in medians_ms}
    return None


def _write(path: Path, medians_ms: Latencies) -> None:
    try:
        write_text(path, json.dumps(medians_ms))
    except StorageError as error:  # the next start measures again, this one continues
        log.warning("the decision is not kept: %s", error)
