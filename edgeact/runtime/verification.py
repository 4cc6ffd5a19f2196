"""Verification of a bundle: the self-check of every artifact on every backend that runs it here."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeact.bundle import Bundle, open_bundle, require_trust
from edgeact.errors import DeviceError, EdgeactError, ModelError, SelfCheckError
from edgeact.runtime.choice import Candidate, find_candidates, nothing_runs_error
from edgeact.runtime.loading import LoadOptions, LoadPlan, open_artifact
from edgeact.runtime.self_check import SelfChecker
from edgeact.runtime.session import Session
from edgeact.self_check_results import SelfCheck, SelfCheckFailed, Verdict

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Verification", "VerifiedArtifact", "verify"]


@dataclass(frozen=True)
class VerifiedArtifact:
    """One artifact on one backend: the result of its self-check, or why it does not run here."""

    artifact: str
    backend: str
    check: SelfCheck | None
    error: EdgeactError | None
    """Why the artifact does not run here; None if it does."""


@dataclass(frozen=True)
class Verification:
    """The self-checks of a bundle on this machine, in the bundle's order of preference."""

    bundle: Bundle
    artifacts: tuple[VerifiedArtifact, ...]

    @property
    def failures(self) -> tuple[SelfCheckFailed, ...]:
        """The first failed stage of every artifact that failed."""
        checks = [each.check for each in self.artifacts if each.check is not None]
        return tuple(failure for check in checks if (failure := check.failure) is not None)

    @property
    def verdict(self) -> Verdict:
        """'failed' if any artifact failed, 'passed' if at least one passed, else 'not-checked'."""
        if self.failures:
            return "failed"
        has_passed = any(each.check is not None and each.check.verdict == "passed" for each in self.artifacts)
        return "passed" if has_passed else "not-checked"

    def raise_on_failure(self) -> None:
        """Raise SelfCheckError if any artifact failed."""
        if failures := self.failures:
            from edgeact.phrases import phrase  # the runtime imports this module, and every import counts on a board

            listed = "; ".join(f"{failure.artifact} on {failure.backend}: {phrase(failure)}" for failure in failures)
            raise SelfCheckError(f"'{self.bundle.path}' on this machine: {listed}", failures)


def verify(path: str | os.PathLike[str], **options: Unpack[LoadOptions]) -> Verification:
    """Check every artifact of the bundle at `path` on every backend that runs it here; options as for `load`.

    Engines are built if their backend builds them. Results replace those of earlier loads. Raises what opening a bundle
    raises, and BackendUnavailableError if nothing in it runs here; a failed check is a result and raises nothing.
    """
    plan = replace(LoadPlan(**options), check="always")
    bundle = open_bundle(path)
    trust = functools.partial(require_trust, bundle, trust_engines=plan.trust_engines)
    usable, rejected = find_candidates(bundle.manifest, plan.artifact, plan.backend, trust)
    if not usable:
        raise nothing_runs_error(rejected)
    checker = SelfChecker(bundle, plan.check, plan.device, plan.threads)
    verified = {each.rank: VerifiedArtifact(each.artifact, each.backend, None, each.error) for each in rejected}
    for candidate in usable:
        verified[candidate.rank] = _verified(bundle, candidate, checker, plan)
    return Verification(bundle, tuple(verified[rank] for rank in sorted(verified)))


def _verified(bundle: Bundle, candidate: Candidate, checker: SelfChecker, plan: LoadPlan) -> VerifiedArtifact:
    def opener(candidate: Candidate) -> Session:
        return open_artifact(bundle, candidate.artifact, candidate.backend, plan.open_options)

    name, backend = candidate.artifact.name, candidate.backend.name
    try:
        return VerifiedArtifact(name, backend, checker.check_once(candidate, opener), None)
    except (DeviceError, ModelError) as error:
        return VerifiedArtifact(name, backend, None, error)
