"""What an exact graph rewrite is: `check` says why it does not apply, or returns what `rewrite` needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import onnx

__all__ = ["Applied", "Refusal", "Rewrite"]

Plan = TypeVar("Plan")


@dataclass(frozen=True)
class Refusal:
    """Why a rewrite does not apply."""

    reason: str


@dataclass(frozen=True)
class Applied:
    """What a rewrite did to a graph, or why it left it alone."""

    name: str
    done: bool
    detail: str


class Rewrite(Protocol, Generic[Plan]):
    """A change of the graph that leaves the function equal within rounding."""

    name: str

    def check(self, model: onnx.ModelProto) -> Plan | Refusal:
        """What `rewrite` needs, or why the rewrite does not apply; changes nothing."""
        ...

    def rewrite(self, model: onnx.ModelProto, plan: Plan) -> None:
        """Change `model` in place."""
        ...
