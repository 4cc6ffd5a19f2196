"""Candidates for NVIDIA GPUs: graphs for the target's TensorRT releases, engines ahead of time if that is possible."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import onnx_ir as ir

from edgeact.bundle import Artifact
from edgeact.bundle.manifest import Role
from edgeact.devices import TensorRtDialect
from edgeact.export.candidates.candidate import (
    BuildInputs,
    Candidate,
    Emitted,
    TargetGraph,
    TargetGraphs,
    onnx_candidate,
)
from edgeact.export.candidates.int8 import Tuning, excluded_layers, int8_graph, int8_omission
from edgeact.export.graph.activation_extrema import largest_values
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import INPUT_NAME, at_opset
from edgeact.export.graph.values import opset_of
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.qdq import quantize
from edgeact.export.tensorrt.cast import with_float_quantizers
from edgeact.export.tensorrt.findings import KEEP_IN_FLOAT, Finding
from edgeact.export.tensorrt.fp16 import Fp16Result, to_strong_fp16
from edgeact.export.tensorrt.lint import lint_graph, raise_on_errors
from edgeact.export.tensorrt.recipe import RecipeGraph, build_recipe, recipe_json, trtexec_script
from edgeact.export.tensorrt.rtx_compiler import EngineBuild, check_and_build, supported_sms
from edgeact.layer_reasons import RefusedByTensorRt
from edgeact.phrases import phrases
from edgeact.precision import Precision
from edgeact.progress import Callbacks
from edgeact.reasons import Decision, EngineNotBuilt, Int8Omitted

__all__ = ["TensorRtGraph", "desktop_candidates", "desktop_graphs", "jetson_candidates", "jetson_graphs"]

Typing = Literal["weak", "strong"]

# Boards that TensorRT for RTX does not know are put through its compiler for Orin's nearest relative, Ampere.
_PROXY_SM = "8.6"


@dataclass(frozen=True)
class _Flavor:
    """One typing of the target's graphs, and the releases that take it."""

    typing: Typing
    dialects: tuple[TensorRtDialect, ...]

    @property
    def opset(self) -> int:
        """The oldest opset that the releases ask for."""
        return min(dialect.opset for dialect in self.dialects)

    @property
    def is_rtx(self) -> bool:
        """Whether TensorRT for RTX is one of the releases."""
        return any(dialect.product == "tensorrt-rtx" for dialect in self.dialects)

    @property
    def requires(self) -> dict[str, str]:
        """TensorRT versions that may open it; none if TensorRT for RTX, which is numbered apart, may."""
        if self.typing == "weak":
            return {"tensorrt": "<11"}
        oldest = min(dialect.release[0] for dialect in self.dialects)
        return {} if self.is_rtx else {"tensorrt": f">={oldest}"}

    def for_precision(self, precision: Precision) -> _Flavor:
        """Return the flavor with only the releases that compute `precision`."""
        dialects = tuple(dialect for dialect in self.dialects if precision != "int8" or dialect.qdq)
        return replace(self, dialects=dialects)


@dataclass(frozen=True, kw_only=True)
class TensorRtGraph(TargetGraph):
    """A graph for one typing of TensorRT."""

    flavor: _Flavor
    half: Fp16Result | None = None
    """The strongly typed FP16 form; None in FP32."""

    @property
    def name(self) -> str:
        """Name of the graph's artifact."""
        return f"trt-{self.label}{_suffix(self.flavor)}"


def jetson_graphs(inputs: BuildInputs, tuning: Tuning | None, callbacks: Callbacks) -> TargetGraphs:
    """Return weakly typed graphs for TensorRT 8 and 10, strongly typed graphs for 11, and the portable FP32 graph."""
    weak = tuple(dialect for dialect in inputs.profile.tensorrt if dialect.typing != "strong")
    strong = tuple(dialect for dialect in inputs.profile.tensorrt if dialect.typing == "strong")
    flavors = [_Flavor("weak", weak)] if weak else []
    if strong:
        flavors.append(_Flavor("strong", strong))
    return _graphs(inputs, flavors, tuning, callbacks)


def desktop_graphs(inputs: BuildInputs, tuning: Tuning | None, callbacks: Callbacks) -> TargetGraphs:
    """Return the strongly typed graphs that engines are compiled from, and the portable FP32 graph."""
    dialects = tuple(dialect for dialect in inputs.profile.tensorrt if dialect.typing != "weak")
    return _graphs(inputs, [_Flavor("strong", dialects)], tuning, callbacks)


def jetson_candidates(inputs: BuildInputs, graphs: tuple[TargetGraph, ...], callbacks: Callbacks) -> Emitted:
    """Return the graphs, linted for each release and compiled by TensorRT for RTX as a check."""
    return Emitted(tuple(_checked(inputs, graph, callbacks)[0] for graph in graphs))


def desktop_candidates(inputs: BuildInputs, graphs: tuple[TargetGraph, ...], callbacks: Callbacks) -> Emitted:
    """Return engines for TensorRT for RTX if it knows the GPU, then the graphs that they are compiled from."""
    checked = [_checked(inputs, graph, callbacks) for graph in graphs]
    candidates = tuple(candidate for candidate, _ in checked)
    if inputs.profile.sm not in supported_sms():
        return Emitted(candidates, (EngineNotBuilt(sm=str(inputs.profile.sm)),))
    engines = tuple(_engine_candidate(candidate, build) for candidate, build in checked if build is not None)
    return Emitted(engines + candidates)


def _graphs(inputs: BuildInputs, flavors: list[_Flavor], tuning: Tuning | None, callbacks: Callbacks) -> TargetGraphs:
    """Return INT8 first if the target has it, then FP16; FP32 in TensorRT only if nothing else is asked for."""
    targeted: list[Precision] = [each for each in ("int8", "fp16") if each in inputs.precisions] or ["fp32"]
    decisions: list[Decision] = []
    if "int8" in targeted and (inputs.calibrator is None or not inputs.profile.supports_int8):
        targeted.remove("int8")
        if not inputs.profile.supports_int8:
            decisions.append(Int8Omitted(cause="target-has-none", target=inputs.profile.title))
    builder = _GraphBuilder(inputs, tuning, callbacks)
    graphs: list[TargetGraph] = []
    for flavor in flavors:
        master = at_opset(inputs.master, flavor.opset)
        for precision in targeted:
            graph = builder.build(master, flavor.for_precision(precision), precision)
            if isinstance(graph, Int8Omitted):
                decisions.append(graph)
            else:
                graphs.append(graph)
    if "fp32" in inputs.precisions:  # the fallback for any machine with ONNX Runtime
        graphs.append(TargetGraph("fp32", at_opset(inputs.master, flavors[0].opset)))
    return TargetGraphs(tuple(graphs), tuple(dict.fromkeys(decisions)))


class _GraphBuilder:
    """Makes the graphs of one target; the activations of the FP32 graph are measured once for all flavors."""

    def __init__(self, inputs: BuildInputs, tuning: Tuning | None, callbacks: Callbacks) -> None:
        self._inputs = inputs
        self._tuning = tuning
        self._callbacks = callbacks
        self._extrema: dict[str, float] | None = None

    def build(self, master: ir.Model, flavor: _Flavor, precision: Precision) -> TensorRtGraph | Int8Omitted:
        """Return the graph of `master` in one precision, or why there is no INT8."""
        self._callbacks.begin(f"TensorRT graph, {precision.upper()}, {flavor.typing}ly typed")
        base = TargetGraph(precision, master)
        if precision == "fp32":
            return TensorRtGraph(precision, base.model, flavor=flavor)
        if precision == "int8" and self._inputs.calibrator is not None:
            quantized = self._quantized(master, flavor, self._inputs.calibrator)
            if isinstance(quantized, Int8Omitted):
                return quantized
            base = quantized
        # An opset changes operators, not tensors: the FP32 graph's extrema are those of the master. Q/DQ changes them.
        extrema = None if precision == "int8" else self._largest_values()
        half = to_strong_fp16(base.model, self._inputs.samples, extrema)
        in_fp32 = {layer: why for layer, why in half.float_layers.items() if layer not in base.float_layers}
        return TensorRtGraph(
            precision,
            half.model if flavor.typing == "strong" else base.model,
            mixed=base.mixed,
            float_layers={**base.float_layers, **in_fp32},
            decisions=base.decisions,
            sensitivity=base.sensitivity,
            goal_met=base.goal_met,
            flavor=flavor,
            half=half,
        )

    def _quantized(self, master: ir.Model, flavor: _Flavor, calibrator: Calibrator) -> TargetGraph | Int8Omitted:
        """Quantize without the layers that the target's rules keep in float or that a release refuses in INT8."""
        excluded = excluded_layers(self._inputs, master)
        if omission := int8_omission(master, excluded):
            return omission
        plain = quantize(master, calibrator.ranges_for(master, excluded), excluded)
        refused = {
            finding.layer: _refusal(finding, dialect)
            for dialect in flavor.dialects
            for finding in lint_graph(plain, dialect, sm=self._inputs.profile.sm)
            if finding.severity == "error" and finding.remedy == KEEP_IN_FLOAT
        }
        label = self._tuning.label if self._tuning else "int8"
        name = f"trt-{label}{_suffix(flavor)}"
        return int8_graph(calibrator, self._tuning, master, {**excluded, **refused}, name)

    def _largest_values(self) -> dict[str, float]:
        if self._extrema is None:
            self._extrema = largest_values(self._inputs.master, self._inputs.samples)
        return self._extrema


def _suffix(flavor: _Flavor) -> str:
    return "" if flavor.typing == "weak" else "-strong"


def _refusal(finding: Finding, dialect: TensorRtDialect) -> RefusedByTensorRt:
    return RefusedByTensorRt(release=dialect.name, rule=finding.rule, expected=finding.expected, got=finding.got)


def _checked(inputs: BuildInputs, graph: TargetGraph, callbacks: Callbacks) -> tuple[Candidate, EngineBuild | None]:
    """Return the candidate of a graph, linted for its releases and compiled by TensorRT for RTX, and the engine.

    A graph for ONNX Runtime needs neither check.
    """
    data = to_bytes(graph.model)
    if not isinstance(graph, TensorRtGraph):
        return onnx_candidate(graph, data), None
    for dialect in graph.flavor.dialects:
        raise_on_errors(lint_graph(graph.model, dialect, sm=inputs.profile.sm))
    known = inputs.profile.sm in supported_sms()
    sm = str(inputs.profile.sm) if known else _PROXY_SM
    place = "" if known else f" in place of SM {inputs.profile.sm}, which TensorRT for RTX does not know, as a check"
    callbacks.begin(f"compiling for SM {sm}{place}, {graph.label.upper()}, {graph.flavor.typing}ly typed")
    build = check_and_build(data, sm, allow_tf32=graph.precision != "fp32")
    return _graph_candidate(inputs, graph, data), build


def _graph_candidate(inputs: BuildInputs, graph: TensorRtGraph, data: bytes) -> Candidate:
    """Return the candidate with the ONNX file, its recipe, and a build script for each release."""
    weak = graph.flavor.typing == "weak"
    path = f"tensorrt/{graph.name}.onnx"
    members: dict[str, tuple[Role, bytes]] = {path: ("graph", data)}
    members |= _recipe_members(inputs, graph)
    artifact = Artifact(
        name=graph.name,
        kind="onnx",
        precision=graph.precision,
        backends=("tensorrt-rtx", "tensorrt") if graph.flavor.is_rtx else ("tensorrt",),
        members=tuple(members),
        requires=graph.flavor.requires,
        float_layers=phrases(graph.float_layers),
        note=_note(graph.half, weak),
    )
    checked = None
    if graph.half and (weak or graph.precision == "int8"):
        checked = to_bytes(with_float_quantizers(graph.half.model))
    return Candidate(
        artifact,
        members,
        "onnxruntime",
        f"trt{_suffix(graph.flavor)}",
        graph.label,
        checked_graph=checked,
        float_layers=graph.float_layers,
        device=f"SM {inputs.profile.sm}",
    )


def _recipe_members(inputs: BuildInputs, graph: TensorRtGraph) -> dict[str, tuple[Role, bytes]]:
    stem = f"tensorrt/{graph.name}"
    profile = inputs.profile.model_copy(update={"tensorrt": graph.flavor.dialects})
    opset = opset_of(graph.model)
    fp32_layers = graph.half.fp32_under_weak_typing if graph.half else ()
    described = RecipeGraph(
        member=f"{stem}.onnx",
        precision=graph.precision,
        typing=graph.flavor.typing,
        opset=opset,
        input_name=INPUT_NAME,
        input_shape=inputs.clip.input_shape,
        fp32_layers=fp32_layers,
    )
    recipe = build_recipe(profile, described)
    members: dict[str, tuple[Role, bytes]] = {f"{stem}.recipe.json": ("recipe", recipe_json(recipe).encode())}
    for release in recipe.releases:
        script = trtexec_script(recipe, release.name)
        members[f"{stem}.{release.name}.sh"] = ("other", script.encode())
    return members


def _note(half: Fp16Result | None, weak: bool) -> str:
    if half is None:
        return ""
    parts = []
    if half.largest_activation is not None:
        parts.append(f"largest activation {half.largest_activation:.3g} of 65504 on the sample clips")
    if half.flushed_weights:
        parts.append(f"weights of {len(half.flushed_weights)} layers hold values FP16 rounds to zero")
    if weak:
        parts.append("parity is that of the strongly typed FP16 form of the same graph")
    return "; ".join(parts)


def _engine_candidate(graph: Candidate, build: EngineBuild) -> Candidate:
    """Return a candidate with the engine that the check of a graph compiled."""
    name = f"rtx-{graph.label}-engine"
    path = f"engines/{name}.sm{build.sm.replace('.', '')}.engine"
    artifact = Artifact(
        name=name,
        kind="tensorrt-rtx-engine",
        precision=graph.precision,
        backends=("tensorrt-rtx",),
        members=(path,),
        requires={"sm": build.sm, "tensorrt-rtx": build.tensorrt_rtx_version},
        float_layers=graph.artifact.float_layers,
        note=f"built ahead of time from {graph.name}; executable code",
    )
    members: dict[str, tuple[Role, bytes]] = {path: ("engine", build.engine)}
    return Candidate(
        artifact,
        members,
        None,
        "rtx-engine",
        graph.label,
        compiled_from=graph,
        float_layers=graph.float_layers,
        device=f"SM {build.sm}",
    )
