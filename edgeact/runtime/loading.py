"""Opening a bundle for recognition: choose, check trust, open, and report what was not possible."""

from __future__ import annotations

import functools
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_args

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
from edgeact.runtime.self_check import Check, SelfChecker
from edgeact.runtime.session import Session
from edgeact.storage import cache_folder

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LoadOptions", "LoadPlan", "OpenOptions", "load", "open_artifact"]


@dataclass(frozen=True)
class OpenOptions:
    """Options of opening an artifact, for any backend."""

    device: str | None = None
    """One of the backend's `devices()`; None: the best one."""
    threads: int | None = None
    """CPU threads; None: the library's default."""
    cache_folder: Path | None = None
    """Folder for engines built on this machine; None: nothing is kept."""


class LoadOptions(TypedDict, total=False):
    """Options of `load`; `LoadPlan` describes them and has their defaults."""

    backend: str | Backend | None
    artifact: str | None
    device: str | None
    threads: int | None
    trust_engines: bool
    check: Check


@dataclass(frozen=True)
class LoadPlan:
    """Which artifact of a bundle is opened, and how."""

    backend: str | Backend | None = None
    """A name, or an instance, e.g. a FakeBackend; None: the artifact's first that runs here."""
    artifact: str | None = None
    """Name of an artifact; None: the bundle's first that runs here."""
    device: str | None = None
    """One of the backend's `devices()`; None: the best one."""
    threads: int | None = None
    """CPU threads; None: the library's default."""
    trust_engines: bool = False
    """Whether to open engines, which are executable code, that this user did not build on this machine."""
    check: Check = "auto"
    """When the self-check runs: once for each machine, backend and version, at each load, or never."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads: expected 1 or more, got {self.threads}")
        if self.check not in get_args(Check):
            raise UsageError(f"check: expected one of {', '.join(get_args(Check))}, got '{self.check}'")

    @property
    def open_options(self) -> OpenOptions:
        """The options of opening, with this user's cache."""
        return OpenOptions(device=self.device, threads=self.threads, cache_folder=cache_folder())


def load(path: str | os.PathLike[str], **options: Unpack[LoadOptions]) -> Recognizer:
    """Open the bundle at `path` on the best backend of this machine, or on the requested one; see `LoadPlan`.

    What the options leave open follows the bundle's order of preference. If a preferred artifact cannot run, a
    FallbackWarning and `Recognizer.choice` say why. A bundle exported for another machine leaves the order to this
    device: the first load times its artifacts, which takes seconds, or minutes if engines are built. The logger
    `edgeact.runtime` announces each timing at level INFO, and later loads reuse the result.

    Before an artifact is used for the first time on this machine, it replays the bundle's golden clip. If decoding,
    resizing, normalization or the network differs from the bundle's figures by more than the limits, the artifact is
    rejected like an artifact that cannot run. A bundle without a golden clip is opened unchecked.

    An engine in the bundle is executable code: it is opened only with `trust_engines` or if this user built it on this
    machine. Raises children of BundleError, BackendUnavailableError, UnknownNameError, UsageError, and SelfCheckError
    if no artifact passes that runs here.
    """
    plan = LoadPlan(**options)
    bundle = open_bundle(path)
    trust = functools.partial(require_trust, bundle, trust_engines=plan.trust_engines)
    usable, rejected = find_candidates(bundle.manifest, plan.artifact, plan.backend, trust)
    session, choice = _open_first(bundle, usable, rejected, plan)
    return Recognizer(bundle.manifest, session, choice, plan.threads)


def open_artifact(bundle: Bundle, artifact: Artifact, backend: Backend, options: OpenOptions) -> Session:
    """Open one artifact on one backend; the caller is responsible for the trust in an engine.

    Raises BackendUnavailableError, DeviceError, ModelError.
    """
    if (reason := backend.why_unavailable()) is not None:
        raise BackendUnavailableError(reason)
    return Session(backend, _request(bundle, artifact, options))


def _open_first(
    bundle: Bundle, usable: list[Candidate], rejected: list[Rejected], plan: LoadPlan
) -> tuple[Session, Choice]:
    """Open the first candidate that opens and passes, by measured latency if the bundle leaves that to the device."""
    options = plan.open_options
    checker = SelfChecker(bundle, plan.check, plan.device, plan.threads)

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
            session, check = checker.open(candidate, open_candidate)
        except (DeviceError, ModelError) as error:
            failure = Rejected(candidate.artifact.name, candidate.backend.name, error, candidate.rank)
            preferred.append(failure)
            rejected = [*rejected, failure]
            continue
        choice = replace(_make_choice(candidate, session, decision, preferred, rejected), check=check)
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
