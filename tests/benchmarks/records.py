"""Records of a benchmark run: rows with values, limits, verdicts, and how they were measured."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeact.records import Interval, Machine

__all__ = ["BenchDuration", "BenchFailure", "BenchGap", "BenchReport", "BenchRow", "BenchSettings"]

SCHEMA_VERSION = "1.0"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BenchSettings(_Record):
    """Size of the model and length of the measurement; `limits_apply` holds for the full size only."""

    limits_apply: bool
    rounds: int = Field(ge=1)
    threads: int = Field(ge=1)
    width: int = Field(ge=1)
    data: str
    calibration_clips: int = Field(ge=1)
    trained: bool = Field(default=False, description="whether the weights are those of tests/benchmarks/weights.py")

    @classmethod
    def full(cls, rounds: int = 40, threads: int = 2) -> BenchSettings:
        """Return the settings with the width of the paper and the default data of the exporter."""
        from edgeact.export.build.data import DEFAULT_DATA
        from tests.benchmarks.weights import pruned_weights, trained_weights

        return cls(
            limits_apply=True,
            rounds=rounds,
            threads=threads,
            width=64,
            data=DEFAULT_DATA,
            calibration_clips=96,
            trained=None not in (trained_weights(), pruned_weights()),
        )

    @classmethod
    def quick(cls, rounds: int = 5, threads: int = 2) -> BenchSettings:
        """Return the settings with a narrow model and little data, to try the benchmarks."""
        data = "stick-actions?train=36&val=12&test=24&seed=0"
        return cls(limits_apply=False, rounds=rounds, threads=threads, width=8, data=data, calibration_clips=32)


class BenchRow(_Record):
    """A measured value. A row with a limit is a claim, a row without a limit is context."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    comparison: Literal["<=", ">="] = "<="
    passed: bool | None = Field(default=None, description="None: context, or the limit does not apply to this run")
    interval: Interval | None = Field(default=None, description="of the value")
    how: str = Field(description="what was measured, and how")

    @model_validator(mode="after")
    def _check(self) -> BenchRow:
        if self.passed is not None and (self.limit is None or self.passed != self._holds(self.limit)):
            raise ValueError(f"{self.name}: {self.value} {self.comparison} {self.limit} is not passed={self.passed}")
        return self

    def judged(self, limit: float, *, applies: bool) -> BenchRow:
        """Return the row with a limit, and with a verdict if the limit applies."""
        passed = self._holds(limit) if applies else None
        return BenchRow(**{**dict(self), "limit": limit, "passed": passed})

    def _holds(self, limit: float) -> bool:
        return self.value <= limit if self.comparison == "<=" else self.value >= limit


class BenchFailure(_Record):
    """A benchmark that failed, with the reason."""

    benchmark: str
    reason: str


class BenchGap(_Record):
    """Rows that this machine or its packages cannot fill, with the reason; unlike a failure, no fault of the run."""

    subject: str
    reason: str


class BenchDuration(_Record):
    """The wall time of a benchmark, with the exports that it is the first to use."""

    benchmark: str
    seconds: float = Field(ge=0)


class BenchReport(_Record):
    """All rows of a run on a machine."""

    schema_version: str = SCHEMA_VERSION
    kind: Literal["benchmarks"] = "benchmarks"
    created_utc: str
    machine: Machine
    load_average: float | None = Field(description="load average of the minute before the run")
    settings: BenchSettings
    rows: tuple[BenchRow, ...]
    failures: tuple[BenchFailure, ...] = ()
    gaps: tuple[BenchGap, ...] = ()
    durations: tuple[BenchDuration, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every benchmark ran and no limit was missed."""
        return not self.failures and all(row.passed is not False for row in self.rows)

    @property
    def notes(self) -> tuple[str, ...]:
        """Limitations of the measured values."""
        notes = []
        if not self.settings.limits_apply:
            notes.append(f"QUICK RUN at width {self.settings.width}: the limits do not apply")
        if not self.settings.trained:
            notes.append("the weights are random: no accuracy (python -m tests.benchmarks.weights trains them)")
        if self.load_average is not None and self.load_average > 0.5:
            notes.append(
                f"the machine was busy before the run (load {self.load_average:.1f}): only ratios are meaningful"
            )
        notes += [f"{failure.benchmark} was not measured: {failure.reason}" for failure in self.failures]
        notes += [f"not measured here: {gap.subject}: {gap.reason}" for gap in self.gaps]
        return tuple(notes)
