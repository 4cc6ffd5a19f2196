"""Variants for NVIDIA GPUs: graphs for the board's TensorRT releases, engines ahead of time where that is possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import onnx
import onnx_ir as ir

from edgeact.bundle import Artifact
from edgeact.bundle.manifest import Role
from edgeact.devices import TensorRtDialect
from edgeact.export.candidates.candidate import Sources, Variant, onnx_variant
from edgeact.export.candidates.int8 import int8_graph, skipped_layers
from edgeact.export.graph.proto import from_proto, to_bytes
from edgeact.export.graph.torch_to_onnx import INPUT_NAME, at_opset
from edgeact.export.graph.values import opset_of
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.qdq import quantize
from edgeact.export.tensorrt.cast import with_float_quantizers
from edgeact.export.tensorrt.findings import KEEP_IN_FLOAT
from edgeact.export.tensorrt.fp16 import Fp16Result, to_strong_fp16
from edgeact.export.tensorrt.lint import lint_graph, raise_on_errors
from edgeact.export.tensorrt.recipe import RecipeGraph, build_recipe, recipe_json, trtexec_script
from edgeact.export.tensorrt.rtx_compiler import EngineBuild, check_and_build, supported_sms
from edgeact.records import Precision

__all__ = ["desktop_variants", "jetson_variants"]

Typing = Literal["weak", "strong"]

# Boards that TensorRT for RTX does not know are put through its compiler for Orin's nearest relative, Ampere.
_PROXY_SM = "8.6"


@dataclass(frozen=True)
class _Flavour:
    """One typing of the target's graphs, and the releases that take it."""

    typing: Typing
    dialects: tuple[TensorRtDialect, ...]

    @property
    def opset(self) -> int:
        """The oldest opset the releases ask for."""
        return min(dialect.opset for dialect in self.dialects)

    @property
    def is_rtx(self) -> bool:
        """Whether TensorRT for RTX is one of the releases."""
        return any(dialect.product == "tensorrt-rtx" for dialect in self.dialects)

    @property
    def requires(self) -> dict[str, str]:
        """What the runtime asks of TensorRT; nothing where TensorRT for RTX, which has other numbers, may open it."""
        if self.typing == "weak":
            return {"tensorrt": "<11"}
        return {} if self.is_rtx else {"tensorrt": f">={min(int(one.version.split('.')[0]) for one in self.dialects)}"}

    def for_precision(self, precision: Precision) -> _Flavour:
        """The same with the releases that compute `precision` only."""
        return replace(self, dialects=tuple(one for one in self.dialects if precision != "int8" or one.qdq))


@dataclass(frozen=True)
class _Graph:
    """A graph in one precision, with what was decided about its layers."""

    model: ir.Model
    precision: Precision
    half: Fp16Result | None
    """The strongly typed FP16 form; None in FP32."""
    float_layers: Mapping[str, str] = field(default_factory=dict)


def jetson_variants(sources: Sources) -> list[Variant]:
    """Weakly typed graphs for TensorRT 8 and 10, strongly typed ones for 11; the FP32 graph for ONNX Runtime."""
    weak = tuple(dialect for dialect in sources.profile.tensorrt if dialect.typing != "strong")
    strong = tuple(dialect for dialect in sources.profile.tensorrt if dialect.typing == "strong")
    flavours = [_Flavour("weak", weak)] if weak else []
    if strong:
        flavours.append(_Flavour("strong", strong))
    graphs = [variant for flavour in flavours for variant, _ in _variants(sources, flavour)]
    return [*graphs, *_portable(sources, flavours[0].opset)]


def desktop_variants(sources: Sources) -> list[Variant]:
    """Engines for TensorRT for RTX where it knows the GPU, and the strongly typed graphs they are built from."""
    flavour = _Flavour("strong", tuple(dialect for dialect in sources.profile.tensorrt if dialect.typing != "weak"))
    built = _variants(sources, flavour)
    engines: list[Variant] = []
    if sources.profile.sm in supported_sms():
        engines = [_engine_variant(sources, variant, build) for variant, build in built]
    else:
        sources.decisions.append(
            f"no engine ahead of time: TensorRT for RTX does not build for SM {sources.profile.sm}"
        )
    return [*engines, *(variant for variant, _ in built), *_portable(sources, flavour.opset)]


def _portable(sources: Sources, opset: int) -> list[Variant]:
    """The FP32 graph as the fallback for any machine with ONNX Runtime; left out where another precision is asked."""
    if "fp32" not in sources.precisions:
        return []
    return [onnx_variant("onnx-fp32", "fp32", at_opset(sources.master, opset).SerializeToString())]


def _variants(sources: Sources, flavour: _Flavour) -> list[tuple[Variant, EngineBuild]]:
    """INT8 first where the target has it, then FP16; FP32 in TensorRT only where nothing else is asked for."""
    wanted: list[Precision] = [one for one in ("int8", "fp16") if one in sources.precisions] or ["fp32"]
    if "int8" in wanted and not sources.profile.supports_int8:
        wanted.remove("int8")
        sources.decisions.append(f"no INT8: TensorRT has none on {sources.profile.title}")
    if "int8" in wanted and (
        sources.calibration is None or skipped_layers(sources, at_opset(sources.master, flavour.opset)) is None
    ):
        wanted.remove("int8")
    return [_checked_variant(sources, flavour.for_precision(precision), precision) for precision in wanted]


def _checked_variant(sources: Sources, flavour: _Flavour, precision: Precision) -> tuple[Variant, EngineBuild]:
    """One graph, linted for every release it is meant for and compiled by the real TensorRT for RTX."""
    sources.on_step(f"TensorRT graph, {precision.upper()}, {flavour.typing}ly typed")
    graph = _graph(sources, flavour, precision)
    for dialect in flavour.dialects:
        raise_on_errors(lint_graph(graph.model, dialect, sm=sources.profile.sm))
    data = to_bytes(graph.model)
    known = sources.profile.sm in supported_sms()
    sm = str(sources.profile.sm) if known else _PROXY_SM
    unknown = f"TensorRT for RTX knows no SM {sources.profile.sm}: compiling for SM {sm} in its place as a check"
    doing = f"compiling for SM {sm}" if known else unknown
    sources.on_step(f"{doing}, {precision.upper()}, {flavour.typing}ly typed")
    build = check_and_build(data, sm, allow_tf32=precision != "fp32")
    return _graph_variant(sources, flavour, graph, data), build


def _graph(sources: Sources, flavour: _Flavour, precision: Precision) -> _Graph:
    model, kept = at_opset(sources.master, flavour.opset), dict[str, str]()
    if precision == "int8" and sources.calibration is not None:
        model, kept = _quantized(sources, flavour, model, sources.calibration)
    stated = from_proto(model)
    if precision == "fp32":
        return _Graph(stated, precision, None, kept)
    # An opset changes operators, not tensors: the FP32 graph's ranges are those of the master. Q/DQ changes them.
    half = to_strong_fp16(stated, sources.samples, None if precision == "int8" else sources.ranges)
    kept |= {layer: f"FP32: {reason}" for layer, reason in half.float_layers.items() if layer not in kept}
    return _Graph(half.model if flavour.typing == "strong" else stated, precision, half, kept)


def _quantized(
    sources: Sources, flavour: _Flavour, model: onnx.ModelProto, calibrator: Calibrator
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The graph in INT8, and its layers left in float: by the board's rule, or because a release refuses them."""
    skip = skipped_layers(sources, model) or {}
    plain = from_proto(quantize(model, calibrator.ranges_for(model, skip), skip))
    refused = {
        finding.layer: finding.problem
        for dialect in flavour.dialects
        for finding in lint_graph(plain, dialect, sm=sources.profile.sm)
        if finding.severity == "error" and finding.remedy == KEEP_IN_FLOAT
    }
    return int8_graph(sources, calibrator, model, {**skip, **refused}, _name(sources, flavour, "int8"))


def _name(sources: Sources, flavour: _Flavour, precision: Precision) -> str:
    return f"trt-{sources.label(precision)}" + ("" if flavour.typing == "weak" else "-strong")


def _graph_variant(sources: Sources, flavour: _Flavour, graph: _Graph, data: bytes) -> Variant:
    """The artifact of a graph: the ONNX file, its recipe, and a build script for every release."""
    weak = flavour.typing == "weak"
    name = _name(sources, flavour, graph.precision)
    path = f"tensorrt/{name}.onnx"
    members: dict[str, tuple[Role, bytes]] = {path: ("graph", data)}
    members |= _recipe_members(sources, flavour, graph, f"tensorrt/{name}")
    artifact = Artifact(
        name=name,
        kind="onnx",
        precision=graph.precision,
        backends=("tensorrt-rtx", "tensorrt") if flavour.is_rtx else ("tensorrt",),
        members=tuple(members),
        requires=flavour.requires,
        float_layers=dict(graph.float_layers),
        note=_note(graph.half, weak),
    )
    checked = None
    if graph.half and (weak or graph.precision == "int8"):
        checked = to_bytes(with_float_quantizers(graph.half.model))
    return Variant(artifact, members, "onnxruntime", checked_graph=checked, device=f"SM {sources.profile.sm}")


def _recipe_members(sources: Sources, flavour: _Flavour, graph: _Graph, stem: str) -> dict[str, tuple[Role, bytes]]:
    profile = sources.profile.model_copy(update={"tensorrt": flavour.dialects})
    opset = opset_of(graph.model)
    shape = sources.clip.input_shape
    fp32_layers = graph.half.fp32_under_weak_typing if graph.half else ()
    recipe = build_recipe(
        profile, RecipeGraph(f"{stem}.onnx", graph.precision, flavour.typing, opset, INPUT_NAME, shape, fp32_layers)
    )
    members: dict[str, tuple[Role, bytes]] = {f"{stem}.recipe.json": ("recipe", recipe_json(recipe).encode())}
    for release in recipe["releases"]:
        script = trtexec_script(recipe, release["name"])
        members[f"{stem}.{release['name']}.sh"] = ("other", script.encode())
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


def _engine_variant(sources: Sources, variant: Variant, build: EngineBuild) -> Variant:
    """The engine that the check of a graph made, as an artifact of its own."""
    name = f"rtx-{sources.label(variant.artifact.precision)}-engine"
    path = f"engines/{name}.sm{build.sm.replace('.', '')}.engine"
    artifact = Artifact(
        name=name,
        kind="tensorrt-rtx-engine",
        precision=variant.artifact.precision,
        backends=("tensorrt-rtx",),
        members=(path,),
        requires={"sm": build.sm, "tensorrt-rtx": build.tensorrt_rtx_version},
        float_layers=variant.artifact.float_layers,
        note=f"built ahead of time from {variant.artifact.name}; executable code",
    )
    members: dict[str, tuple[Role, bytes]] = {path: ("engine", build.engine)}
    return Variant(artifact, members, None, built_from=variant.artifact.name, device=f"SM {build.sm}")
