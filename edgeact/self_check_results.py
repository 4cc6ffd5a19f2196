"""Results of the self-check: the golden clip of a bundle, replayed on this machine and compared stage by stage.

`edgeact.phrases.phrase` turns them into English.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeact.schema import StrictModel

__all__ = ["CheckStage", "SelfCheck", "SelfCheckFailed", "StageResult", "UncheckedCause", "Verdict"]

Verdict = Literal["passed", "failed", "not-checked"]
CheckStage = Literal["decode", "resize", "normalize", "network"]
"""Stages that the golden clip passes, in order."""
UncheckedCause = Literal["no-golden-clip", "no-figures", "no-opencv", "no-decoder", "decoded-differently"]
"""Why a stage cannot be checked; 'no-figures': the bundle was exported before these figures were recorded."""


class StageResult(StrictModel):
    """One stage of the golden clip on this machine, compared with the bundle's figures."""

    kind: Literal["stage-result"] = "stage-result"
    stage: CheckStage
    figure: float | None = None
    """decode, resize: difference in levels of 0 to 255; normalize: difference of the network input; network: SNR of the
    logits in dB. None if the stage was not checked."""
    limit: float | None = None
    """Largest accepted difference; for the network the smallest accepted SNR."""
    unchecked: UncheckedCause | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the figure is within its limit."""
        if self.figure is None or self.limit is None:
            return "not-checked"
        is_within = self.figure >= self.limit if self.stage == "network" else self.figure <= self.limit
        return "passed" if is_within else "failed"


class SelfCheckFailed(StrictModel):
    """The first stage at which an artifact computes other results here than the bundle states."""

    kind: Literal["self-check-failed"] = "self-check-failed"
    artifact: str
    backend: str
    result: StageResult


class SelfCheck(StrictModel):
    """All stages of the golden clip with one artifact on one backend of this machine."""

    artifact: str
    backend: str
    device: str
    stages: tuple[StageResult, ...] = Field(description="in the order that the clip passes them")

    @property
    def failure(self) -> SelfCheckFailed | None:
        """The first stage that failed; None if none did."""
        for result in self.stages:
            if result.verdict == "failed":
                return SelfCheckFailed(artifact=self.artifact, backend=self.backend, result=result)
        return None

    @property
    def verdict(self) -> Verdict:
        """'failed' if any stage failed, 'passed' if the network passed, else 'not-checked'."""
        if self.failure is not None:
            return "failed"
        network = next((result for result in self.stages if result.stage == "network"), None)
        return "not-checked" if network is None else network.verdict
