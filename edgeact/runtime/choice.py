"""Which artifact runs on which backend: the bundle's order of preference, held against what this machine can do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeact.bundle import Artifact, Manifest
from edgeact.errors import BackendUnavailableError, EdgeactError, UnknownNameError
from edgeact.records import Precision
from edgeact.runtime.backends import BACKENDS, Backend, get_backend

__all__ = ["Candidate", "Choice", "FallbackWarning", "Rejected", "candidates", "none_left", "told", "unmet"]

_BOUND = re.compile(r"(>=|<=|>|<|==)?\s*(\d+(?:\.\d+)*)")


class FallbackWarning(UserWarning):
    """The model runs, but not the way the bundle prefers."""


@dataclass(frozen=True)
class Rejected:
    """A way to run the model that was not taken, and why."""

    artifact: str
    backend: str
    error: EdgeactError
    rank: int
    """Place in the bundle's order of preference, 0 is best."""

    def __str__(self) -> str:
        return f"{self.artifact} on {self.backend}: {self.error}"


@dataclass(frozen=True)
class Candidate:
    """A way to run the model that should work here."""

    artifact: Artifact
    backend: Backend
    rank: int


@dataclass(frozen=True)
class Choice:
    """What runs, where, and why not something else."""

    artifact: str
    precision: Precision
    backend: str
    device: str
    reason: str
    is_fallback: bool
    """Whether something the bundle prefers was rejected."""
    rejected: tuple[Rejected, ...]


def candidates(
    manifest: Manifest, artifact: str | None, backend: str | Backend | None, trust: Callable[[Artifact], None]
) -> tuple[list[Candidate], list[Rejected]]:
    """Every way to run the model that the user's wishes leave, split into usable and rejected, best first.

    `trust` raises for an engine that must not be opened. Raises UnknownNameError for an unknown name and
    BackendUnavailableError for a backend that no artifact is made for.
    """
    usable: list[Candidate] = []
    rejected: list[Rejected] = []
    known: dict[str, Backend] = {}
    for rank, (one, name) in enumerate(_ways(manifest, artifact, backend)):
        try:
            if name not in known:
                known[name] = _find(name, backend)
            trust(one)
            _check(one, known[name])
            usable.append(Candidate(one, known[name], rank))
        except EdgeactError as error:
            rejected.append(Rejected(one.name, name, error, rank))
        except (ImportError, OSError) as error:
            broken = BackendUnavailableError(f"{name} is installed but does not load: {error}; install it again")
            rejected.append(Rejected(one.name, name, broken, rank))
    return usable, rejected


def none_left(rejected: list[Rejected]) -> EdgeactError:
    """The error for a bundle that cannot run here: the one reason, or every way with the reason against it."""
    if len(rejected) == 1:
        return rejected[0].error
    return BackendUnavailableError(f"nothing in the bundle runs here: {told(rejected)}")


def told(rejected: Iterable[Rejected]) -> str:
    """What was rejected and why, each distinct reason once."""
    ways: dict[str, list[str]] = {}
    for one in rejected:
        ways.setdefault(str(one.error), []).append(f"{one.artifact} on {one.backend}")
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in ways.items())


def unmet(requires: Mapping[str, str], facts: Mapping[str, str]) -> str | None:
    """Which requirement the facts do not meet, in words; None where they meet all.

    A requirement is a version or its beginning ('10.3'), several of which one must fit ('8.6, 8.9'), or bounds that all
    must hold ('>=10.3,<11').
    """
    for key, wanted in requires.items():
        have = facts.get(key)
        if have is None or not _meets(have, wanted):
            return f"needs {key} {wanted}, got {have or 'none'}"
    return None


def _ways(manifest: Manifest, artifact: str | None, backend: str | Backend | None) -> list[tuple[Artifact, str]]:
    names = {one.name for one in manifest.artifacts}
    if artifact is not None and artifact not in names:
        raise UnknownNameError("artifact", artifact, names)
    chosen = [manifest.artifact(name) for name in ((artifact,) if artifact is not None else manifest.preferred)]
    if isinstance(backend, str):
        get_backend(backend)  # an unknown name is told with near ones
        ways = [(one, backend) for one in chosen if backend in one.backends]
        if not ways:
            offered = sorted({name for one in chosen for name in one.backends})
            raise BackendUnavailableError(
                f"backend '{backend}' opens nothing of {[one.name for one in chosen]}; they are for {offered}"
            )
        return ways
    if backend is not None:
        return [(one, backend.name) for one in chosen]
    return [(one, name) for one in chosen for name in one.backends]


def _find(name: str, backend: str | Backend | None) -> Backend:
    if backend is not None and not isinstance(backend, str):
        return backend
    if name not in BACKENDS:
        raise BackendUnavailableError(f"this edgeact has no backend '{name}'; it has {', '.join(BACKENDS)}")
    return get_backend(name)


def _check(artifact: Artifact, backend: Backend) -> None:
    if artifact.kind not in backend.kinds:
        raise BackendUnavailableError(f"{backend.name} does not open artifacts of kind {artifact.kind}")
    if reason := backend.why_unavailable():
        raise BackendUnavailableError(reason)
    if artifact.requires and (against := unmet(artifact.requires, backend.facts())):
        raise BackendUnavailableError(
            f"'{artifact.name}' {against}; choose another artifact, or export for this machine"
        )


def _meets(have: str, wanted: str) -> bool:
    parts = [part.strip() for part in wanted.split(",")]
    bounds = [part for part in parts if part[:1] in "<>"]
    exact = [part for part in parts if part not in bounds]
    return all(_within(have, one) for one in bounds) and (not exact or any(_within(have, one) for one in exact))


def _within(have: str, bound: str) -> bool:
    match = _BOUND.fullmatch(bound)
    if match is None:
        return have == bound
    operator, text = match.groups()
    limit = tuple(map(int, text.split(".")))
    version = tuple(map(int, re.findall(r"\d+", have)))[: len(limit)]
    version += (0,) * (len(limit) - len(version))
    return {
        ">=": version >= limit,
        "<=": version <= limit,
        ">": version > limit,
        "<": version < limit,
    }.get(operator or "==", version == limit)
