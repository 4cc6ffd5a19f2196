"""Choice of artifact and backend: the bundle's order of preference against what this machine can run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from edgeact.bundle import Artifact, Manifest
from edgeact.errors import BackendUnavailableError, EdgeactError, SelfCheckError, UnknownNameError
from edgeact.precision import Precision
from edgeact.runtime.backends import BACKENDS, Backend, get_backend
from edgeact.self_check_results import SelfCheck

__all__ = [
    "Candidate",
    "Choice",
    "FallbackWarning",
    "Mismatch",
    "Rejected",
    "describe_rejected",
    "find_candidates",
    "find_mismatch",
    "nothing_runs_error",
]


class FallbackWarning(UserWarning):
    """The model runs, but not on the artifact or device that the bundle prefers."""


@dataclass(frozen=True)
class Rejected:
    """An artifact on a backend that was not chosen, and why."""

    artifact: str
    backend: str
    error: EdgeactError
    rank: int
    """Position in the bundle's order of preference, 0 is best."""

    def __str__(self) -> str:
        return f"{self.artifact} on {self.backend}: {self.error}"


@dataclass(frozen=True)
class Candidate:
    """An artifact on a backend that should run here."""

    artifact: Artifact
    backend: Backend
    rank: int
    """Position in the bundle's order of preference, 0 is best."""


@dataclass(frozen=True)
class Choice:
    """The artifact, backend and device that run the model, and why."""

    artifact: str
    precision: Precision
    backend: str
    device: str
    reason: str
    is_fallback: bool
    """Whether a candidate that the bundle prefers was rejected."""
    rejected: tuple[Rejected, ...]
    check: SelfCheck | None = None
    """Result of the self-check; None if no check was wanted."""


class Mismatch(NamedTuple):
    """A requirement of an artifact that the backend does not meet."""

    fact: str
    required: str
    actual: str | None

    def __str__(self) -> str:
        return f"requires {self.fact} {self.required}, got {self.actual or 'none'}"


def find_candidates(
    manifest: Manifest, artifact: str | None, backend: str | Backend | None, trust: Callable[[Artifact], None]
) -> tuple[list[Candidate], list[Rejected]]:
    """Return the usable and the rejected combinations of artifact and backend, best first.

    `artifact` and `backend` restrict the combinations; `trust` raises for an engine that must not be opened. Raises
    UnknownNameError for an unknown name and BackendUnavailableError for a backend that opens none of the artifacts.
    """
    usable: list[Candidate] = []
    rejected: list[Rejected] = []
    backends: dict[str, Backend] = {}
    for rank, (option, name) in enumerate(_combinations(manifest, artifact, backend)):
        try:
            if name not in backends:
                backends[name] = _find_backend(name, backend)
            trust(option)
            _check(option, backends[name])
            usable.append(Candidate(option, backends[name], rank))
        except EdgeactError as error:
            rejected.append(Rejected(option.name, name, error, rank))
        except (ImportError, OSError) as error:
            broken = BackendUnavailableError(f"{name} is installed but does not load: {error}; install {name} again")
            rejected.append(Rejected(option.name, name, broken, rank))
    return usable, rejected


def nothing_runs_error(rejected: list[Rejected]) -> EdgeactError:
    """Return the error for a bundle that cannot run here: the only reason, or all combinations with their reasons.

    A SelfCheckError if any artifact failed its self-check: that artifact would run, and give wrong answers.
    """
    if len(rejected) == 1:
        return rejected[0].error
    failed = [each.error for each in rejected if isinstance(each.error, SelfCheckError)]
    if failures := [failure for error in failed for failure in error.failures]:
        return SelfCheckError(
            f"nothing in the bundle computes its results here: {describe_rejected(rejected)}; "
            "'edgeact verify BUNDLE' shows every stage",
            failures,
        )
    return BackendUnavailableError(f"nothing in the bundle runs here: {describe_rejected(rejected)}")


def describe_rejected(rejected: Iterable[Rejected]) -> str:
    """Return what was rejected and why, in one line; each distinct reason appears once."""
    combinations: dict[str, list[str]] = {}
    for each in rejected:
        combinations.setdefault(str(each.error), []).append(f"{each.artifact} on {each.backend}")
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in combinations.items())


def find_mismatch(requires: Mapping[str, str], facts: Mapping[str, str]) -> Mismatch | None:
    """Return the first requirement that the facts do not meet, or None.

    A requirement is a version or its prefix ('10.3'), alternatives of which one must match ('8.6, 8.9'), or bounds of
    PEP 440 that all must hold ('>=10.3,<11').
    """
    for fact, required in requires.items():
        actual = facts.get(fact)
        if actual is None or not _meets(actual, required):
            return Mismatch(fact, required, actual)
    return None


def _combinations(
    manifest: Manifest, artifact: str | None, backend: str | Backend | None
) -> list[tuple[Artifact, str]]:
    names = {each.name for each in manifest.artifacts}
    if artifact is not None and artifact not in names:
        raise UnknownNameError("artifact", artifact, names)
    artifacts = [manifest.artifact(name) for name in ((artifact,) if artifact is not None else manifest.preferred)]
    if backend is None:
        return [(each, name) for each in artifacts for name in each.backends]
    if not isinstance(backend, str):
        return [(each, backend.name) for each in artifacts]
    get_backend(backend)  # raises for an unknown name, with the nearest known ones
    combinations = [(each, backend) for each in artifacts if backend in each.backends]
    if not combinations:
        offered = sorted({name for each in artifacts for name in each.backends})
        raise BackendUnavailableError(
            f"backend '{backend}' opens none of the artifacts {', '.join(each.name for each in artifacts)}; "
            f"expected one of {', '.join(offered)}"
        )
    return combinations


def _find_backend(name: str, backend: str | Backend | None) -> Backend:
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
    if artifact.requires and (mismatch := find_mismatch(artifact.requires, backend.facts())):
        raise BackendUnavailableError(
            f"artifact '{artifact.name}' {mismatch}; choose another artifact, or export for this machine"
        )


def _meets(actual: str, required: str) -> bool:
    parts = [part.strip() for part in required.split(",")]
    bounds = [part for part in parts if part[:1] in ("<", ">")]
    alternatives = [part for part in parts if part not in bounds]
    is_alternative = not alternatives or any(_matches(actual, each) for each in alternatives)
    return is_alternative and all(_matches(actual, bound) for bound in bounds)


def _matches(actual: str, specifier: str) -> bool:
    """Return whether a version satisfies a bound, or begins with a version; anything else must be equal."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # few artifacts have requirements
    from packaging.version import InvalidVersion

    is_bound = specifier[:1] in ("<", ">", "=")
    try:
        specifiers = SpecifierSet(specifier if is_bound else f"=={specifier}.*")
        return specifiers.contains(actual, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return actual == specifier
