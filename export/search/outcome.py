"""Outcome of one trial as stored in the study: counts and measurements, without a verdict."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from edgeact.precision import Precision
from edgeact.records import Latency, Machine

__all__ = ["Outcome"]


class Outcome(BaseModel):
    """A finished trial; with a `failure` all other fields keep their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    failure: str = ""
    artifact: str = ""
    precision: Precision = "fp32"
    backend: str = ""
    size_bytes: int = 0
    parameters: int = 0
    macs: int = 0
    weights_sha256: str = Field(default="", description="SHA-256 of the state after pruning and fine-tuning")
    artifacts_sha256: Mapping[str, str] = Field(
        default_factory=dict, description="artifact -> digest of the members a device opens, of every artifact compared"
    )
    latency: Latency | None = Field(default=None, description="None: estimated only, or failed")
    latency_estimate_ms: float | None = None
    machine: Machine | None = Field(default=None, description="machine that measured the latency")
    drop_points: float = Field(default=0.0, description="accuracy drop against the unpruned model, points")
    right: tuple[bool, ...] = Field(default=(), description="whether each video is classified correctly")

    @property
    def latency_ms(self) -> float:
        """Measured median latency, otherwise the estimate."""
        known = (self.latency.p50_ms if self.latency else None, self.latency_estimate_ms)
        return next(value for value in known if value is not None)
