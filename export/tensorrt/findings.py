"""The subject of a lint rule, and its findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from edgeact.devices import TensorRtDialect
from edgeact.export.graph.values import opset_of

__all__ = ["KEEP_IN_FLOAT", "Finding", "Rule", "Severity", "Subject"]

Severity = Literal["error", "warning"]

KEEP_IN_FLOAT = "keep this layer in float"
"""The remedy of a finding that quantization causes and an exclusion of the layer resolves."""


@dataclass(frozen=True)
class Finding:
    """A problem of one layer, and its remedy."""

    rule: str
    layer: str
    """Label of the node; the name of an input; 'graph' for the whole."""
    severity: Severity
    expected: str
    got: str
    remedy: str

    @property
    def problem(self) -> str:
        """The expected and the actual property of the graph."""
        return f"expected {self.expected}, got {self.got}"

    @property
    def message(self) -> str:
        """The problem and the remedy."""
        return f"{self.problem}; {self.remedy}"


@dataclass(frozen=True)
class Subject:
    """A graph, and the TensorRT release and GPU that are to run it."""

    model: ir.Model
    dialect: TensorRtDialect
    sm: str | None
    """Compute capability, '8.7'; None if unknown."""

    @property
    def opset(self) -> int:
        """The graph's ONNX opset."""
        return opset_of(self.model)

    def is_before(self, release: tuple[int, int]) -> bool:
        """Return whether the dialect is a TensorRT older than `release`; TensorRT for RTX is older than none."""
        return self.dialect.product == "tensorrt" and self.dialect.release < release

    @property
    def title(self) -> str:
        """The release as messages name it."""
        product = "TensorRT for RTX" if self.dialect.product == "tensorrt-rtx" else "TensorRT"
        return f"{product} {self.dialect.version}"

    def nodes(self, *op_types: str) -> Iterator[ir.Node]:
        """Yield the nodes of these operators in the graph's order; all nodes if none is given."""
        return (node for node in self.model.graph if not op_types or node.op_type in op_types)


Rule = Callable[[Subject], Iterable[Finding]]
