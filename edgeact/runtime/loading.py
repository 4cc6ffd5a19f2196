"""Opening a bundle for recognition: choose, check trust, open, and report what was not possible."""

from __future__ import annotations

import functools
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from edgeact.bundle import Artifact, Bundle, open_bundle, require_trust
from edgeact.bundle.manifest import Role
from edgeact.errors import BackendUnavailableError, DeviceError, ModelError, UsageError
from edgeact.runtime.backends import Backend, OpenRequest
from edgeact.runtime.choice import (
    Candidate,
    Choice,
    FallbackWarning,
    Rejected,
    describe_rejected,
    find_candidates,
    nothing_runs_error,
)
from edgeact.runtime.decision import decide
from edgeact.runtime.recognizer import Recognizer
from edgeact.runtime.session import Session
from edgeact.storage import cache_folder

__all__ = ["OpenOptions", "load", "open_artifact"]


@dataclass(frozen=True)
class OpenOptions:
    """Options of opening an artifact, for any backend."""

    device: str | None = None
    """One of the backend's `devices()`; None: the best one."""
    threads: int | None = None
    """CPU threads; None: the library's default."""
    cache_folder: Path | None = None
    """Folder for engines built on this machine; None: nothing is kept."""


def load(
    path: str | os.PathLike[str],
    *,
    backend: str | Backend | None = None,
    artifact: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    trust_engines: bool = False,
) -> Recognizer:
    """Open the bundle at `path` on the best backend of this machine, or on the requested one.

    What the arguments leave open follows the bundle's order of preference. If a preferred artifact cannot run, a
    FallbackWarning and `Recognizer.choice` say why. A bundle exported for another machine leaves the order to this
    device: the first load times its artifacts, which takes seconds, or minutes if engines are built. The logger
    `edgeact.runtime` announces each timing at level INFO, and later loads reuse the result.

    `backend` may be a name or an instance, e.g. a FakeBackend. An engine in the bundle is executable code: it is opened
    only with `trust_engines` or if this user built it on this machine. Raises children of BundleError,
    BackendUnavailableError, UnknownNameError, UsageError.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads: expected 1 or more, got {threads}")
    bundle = open_bundle(path)
    options = OpenOptions(device=device, threads=threads, cache_folder=cache_folder())
    trust = functools.partial(require_trust, bundle, trust_engines=trust_engines)
    usable, rejected = find_candidates(bundle.manifest, artifact, backend, trust)
    session, choice = _open_first(bundle, usable, rejected, options)
    return Recognizer(bundle.manifest, session, choice, threads)


def open_artifact(bundle: Bundle, artifact: Artifact, backend: Backend, options: OpenOptions) -> Session:
    """Open one artifact on one backend; the caller is responsible for the trust in an engine.

    Raises BackendUnavailableError, DeviceError, ModelError.
    """
    if (reason := backend.why_unavailable()) is not None:
        raise BackendUnavailableError(reason)
    return Session(backend, _request(bundle, artifact, options))


def _open_first(
    bundle: Bundle, usable: list[Candidate], rejected: list[Rejected], options: OpenOptions
) -> tuple[Session, Choice]:
    """Open the first candidate that opens, in order of measured latency if the bundle leaves that to the device."""

    def open_candidate(candidate: Candidate) -> Session:
        return open_artifact(bundle, candidate.artifact, candidate.backend, options)

    best_rank = min((candidate.rank for candidate in usable), default=0)
    preferred = [each for each in rejected if each.rank < best_rank]
    decision = ""
    if bundle.manifest.decide_on_device and usable:
        key = {"bundle": bundle.digest, "device": str(options.device), "threads": str(options.threads)}
        usable, decision = decide(usable, key, open_candidate)
    for candidate in usable:
        try:
            session = open_candidate(candidate)
        except (DeviceError, ModelError) as error:
            failure = Rejected(candidate.artifact.name, candidate.backend.name, error, candidate.rank)
            preferred.append(failure)
            rejected = [*rejected, failure]
            continue
        choice = _make_choice(candidate, session, decision, preferred, rejected)
        _warn(choice, session)
        return session, choice
    raise nothing_runs_error(rejected)


def _make_choice(
    candidate: Candidate, session: Session, decision: str, preferred: list[Rejected], rejected: list[Rejected]
) -> Choice:
    """Return the choice of `candidate`; `preferred` are rejected candidates that the bundle prefers."""
    reason = decision or "the bundle's first choice"
    if preferred:
        reason = f"instead of {describe_rejected(preferred)}"
    return Choice(
        artifact=candidate.artifact.name,
        precision=candidate.artifact.precision,
        backend=candidate.backend.name,
        device=session.device,
        reason=reason,
        is_fallback=bool(preferred),
        rejected=tuple(sorted(rejected, key=lambda each: each.rank)),
    )


def _warn(choice: Choice, session: Session) -> None:
    if choice.is_fallback:
        warnings.warn(
            f"running {choice.artifact} on {choice.backend} ({choice.device}) {choice.reason}",
            FallbackWarning,
            stacklevel=4,
        )
    for note in session.notes:
        warnings.warn(note, FallbackWarning, stacklevel=4)


def _request(bundle: Bundle, artifact: Artifact, options: OpenOptions) -> OpenRequest:
    manifest = bundle.manifest
    roles = {member.path: member.role for member in manifest.members}
    by_role = {roles[path]: path for path in reversed(artifact.members[1:])}

    def read(role: Role) -> bytes | None:
        return bundle.read(by_role[role]) if role in by_role else None

    return OpenRequest(
        graph=bundle.read(artifact.members[0]),
        kind=artifact.kind,
        precision=artifact.precision,
        input_shape=manifest.clip.input_shape,
        output_size=len(manifest.labels),
        weights=read("weights"),
        recipe=read("recipe"),
        input_name=manifest.input_name,
        output_name=manifest.output_name,
        device=options.device,
        threads=options.threads,
        cache_folder=options.cache_folder,
    )
