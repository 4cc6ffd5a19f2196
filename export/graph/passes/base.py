"""The interface of an exact graph rewrite: `check` returns a plan or a refusal, `rewrite` carries out the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import onnx_ir as ir

__all__ = ["Refusal", "Rewrite", "RewriteOutcome"]

Plan = TypeVar("Plan")


@dataclass(frozen=True)
class Refusal:
    """Why a rewrite does not apply to a graph."""

    expected: str
    """Property of the graph that the rewrite needs."""
    got: str
    """Property that the graph has instead."""
    layer: str = ""
    """Name of the layer that was examined last; empty if the graph has no layer of the kind."""

    def describe(self) -> str:
        """Return the refusal as one sentence without a full stop."""
        subject = f"layer '{self.layer}': " if self.layer else ""
        return f"{subject}expected {self.expected}, got {self.got}"


@dataclass(frozen=True)
class RewriteOutcome:
    """The result of trying one rewrite on a graph."""

    rewrite: str
    """Name of the rewrite."""
    refusal: Refusal | None = None
    """None if the rewrite was applied."""

    @property
    def is_applied(self) -> bool:
        """Whether the graph was changed."""
        return self.refusal is None


class Rewrite(Protocol[Plan]):
    """A change of a graph that leaves its function equal within rounding."""

    name: str
    """Name of the rewrite's file, which decisions and reports show."""

    def check(self, model: ir.Model) -> Plan | Refusal:
        """Return the plan for `rewrite`, valid until the graph is changed, or why the rewrite does not apply.

        Changes nothing.
        """
        ...

    def rewrite(self, model: ir.Model, plan: Plan) -> None:
        """Change `model` in place; types and shapes of the changed values are inferred afterwards."""
        ...
