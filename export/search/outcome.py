"""What came of one trial, as it lies in the study: what was counted and measured, and no judgement."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from edgeact.records import Latency, Machine, Precision

__all__ = ["Outcome"]


class Outcome(BaseModel):
    """A finished trial; where `failure` is told there is nothing but that."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    failure: str = ""
    artifact: str = ""
    precision: Precision = "fp32"
    backend: str = ""
    size_bytes: int = 0
    parameters: int = 0
    macs: int = 0
    weights_sha256: str = Field(default="", description="of the state, pruned and fine-tuned")
    artifacts_sha256: dict[str, str] = Field(
        default_factory=dict, description="artifact -> digest of the members a device opens, of every artifact compared"
    )
    latency: Latency | None = Field(default=None, description="None: only estimated, or failed")
    latency_estimate_ms: float | None = None
    machine: Machine | None = Field(default=None, description="that the latency was measured on")
    drop_points: float = Field(default=0.0, description="against the unpruned model; below 0 it is the better one")
    right: tuple[bool, ...] = Field(default=(), description="by video, in the order of the reference's")

    @property
    def latency_ms(self) -> float:
        """The measured median, else the estimate."""
        known = (self.latency.p50_ms if self.latency else None, self.latency_estimate_ms)
        return next(value for value in known if value is not None)
