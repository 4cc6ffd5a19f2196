"""Find what a TensorRT release refuses or silently computes differently, before the graph reaches the board.

Jetson's TensorRT does not run off the board, so its rules are stated here, one function each; TensorRT for RTX checks
graphs itself (`rtx_compiler`), and the tests compare the rules that both share with it. Sources: the operator tables
of github.com/onnx/onnx-tensorrt (`docs/operators.md` of every release branch), NvInfer.h of every release branch,
and builds with TensorRT for RTX 1.7.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from edgeact.devices import TensorRtDialect
from edgeact.errors import LintError
from edgeact.export.tensorrt import graph_rules, qdq_rules
from edgeact.export.tensorrt.findings import Finding, Rule, Subject

__all__ = ["RULES", "lint_graph", "raise_on_errors"]

RULES: tuple[Rule, ...] = (
    graph_rules.opset,
    graph_rules.static_shapes,
    graph_rules.operators,
    graph_rules.control_flow,
    graph_rules.pooling,
    graph_rules.types,
    graph_rules.strong_precision,
    graph_rules.turing_volumes,
    graph_rules.constant_weights,
    qdq_rules.quantization_support,
    qdq_rules.int32_bias,
    qdq_rules.zero_points,
    qdq_rules.signed_int8,
    qdq_rules.scales,
    qdq_rules.scale_axes,
    qdq_rules.group_size,
    qdq_rules.small_channels,
)


def lint_graph(model: ir.Model, dialect: TensorRtDialect, *, sm: str | None = None) -> tuple[Finding, ...]:
    """Return everything in `model` that `dialect` refuses (errors) or computes slowly (warnings).

    `sm` is the GPU's compute capability, '8.7'; rules that depend on it report nothing if it is None.
    """
    subject = Subject(model, dialect, sm)
    return tuple(finding for rule in RULES for finding in rule(subject))


def raise_on_errors(findings: Iterable[Finding]) -> None:
    """Raise LintError with every finding of severity 'error' and its layer, if there is any."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        lines = "\n".join(f"  {finding.layer}: {finding.message} [{finding.rule}]" for finding in errors)
        raise LintError(f"the graph breaks {len(errors)} rule(s) of its TensorRT release:\n{lines}")
