"""Variants for NVIDIA GPUs: graphs for the board's TensorRT releases, engines ahead of time where that is possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import onnx

from edgeact.bundle import Artifact
from edgeact.bundle.manifest import Role
from edgeact.devices import TensorRtDialect
from edgeact.export.convert.fp16 import Fp16Result, to_strong_fp16
from edgeact.export.convert.lint import lint_graph, raise_on_errors
from edgeact.export.convert.onnx import INPUT_NAME, at_opset
from edgeact.export.convert.recipe import RecipeGraph, build_recipe, recipe_json, trtexec_script
from edgeact.export.convert.tensorrt_rtx import check_and_build, supported_sms
from edgeact.export.quantize.skip import skip_list
from edgeact.export.quantize.static import float_layers, quantize
from edgeact.export.targets.cpu import OPSET
from edgeact.export.targets.variant import Sources, Variant, onnx_variant
from edgeact.records import Precision

__all__ = ["desktop_variants", "jetson_variants"]

Typing = Literal["weak", "strong"]

# Boards that TensorRT for RTX does not know are put through its compiler for Orin's nearest relative, Ampere.
_PROXY_SM = "8.6"


@dataclass(frozen=True)
class _Flavour:
    """One graph of the target: its typing and the releases it is for."""

    graph: onnx.ModelProto
    """FP32, at the oldest opset the releases ask for."""
    typing: Typing
    dialects: tuple[TensorRtDialect, ...]


def jetson_variants(sources: Sources) -> list[Variant]:
    """Weakly typed graphs for TensorRT 8 and 10, strongly typed ones for 11; the FP32 graph for ONNX Runtime."""
    weak = tuple(dialect for dialect in sources.profile.tensorrt if dialect.typing != "strong")
    strong = tuple(dialect for dialect in sources.profile.tensorrt if dialect.typing == "strong")
    opset = min([dialect.opset for dialect in weak] + [OPSET])
    graph = at_opset(sources.master, opset)
    variants: list[Variant] = []
    if weak:
        variants += _graphs(sources, _Flavour(graph, "weak", weak))
    if strong:
        variants += _graphs(sources, _Flavour(at_opset(sources.master, OPSET), "strong", strong))
    return [*variants, *_portable(sources, graph)]


def desktop_variants(sources: Sources) -> list[Variant]:
    """Engines for TensorRT for RTX where it knows the GPU, and the strongly typed graphs they are built from."""
    graph = at_opset(sources.master, OPSET)
    strong = tuple(dialect for dialect in sources.profile.tensorrt if dialect.typing != "weak")
    graphs = _graphs(sources, _Flavour(graph, "strong", strong))
    sm = sources.profile.sm
    if sm is None or sm not in supported_sms():
        sources.decisions.append(f"no engine ahead of time: TensorRT for RTX does not build for SM {sm}")
        return [*graphs, *_portable(sources, graph)]
    engines = []
    for variant in graphs:
        sources.on_step(f"engine for SM {sm}, {variant.artifact.precision.upper()}")
        engines.append(_engine(variant, sm))
    return [*engines, *graphs, *_portable(sources, graph)]


def _portable(sources: Sources, graph: onnx.ModelProto) -> list[Variant]:
    """The FP32 graph as the fallback for any machine with ONNX Runtime; left out where another precision is asked."""
    if "fp32" not in sources.precisions:
        return []
    return [onnx_variant("onnx-fp32", "fp32", graph.SerializeToString())]


def _graphs(sources: Sources, flavour: _Flavour) -> list[Variant]:
    """INT8 first where the target has it, then FP16; FP32 in TensorRT only where nothing else is asked for."""
    wanted: list[Precision] = [precision for precision in ("int8", "fp16") if precision in sources.precisions]
    if not wanted and flavour.typing == "weak":
        wanted = ["fp32"]
    if "int8" in wanted and not sources.profile.supports_int8:
        wanted.remove("int8")
        sources.decisions.append(f"no INT8: TensorRT has none on {sources.profile.title}")
    if "int8" in wanted and not sources.calibration:
        wanted.remove("int8")
    return [_graph(sources, flavour, precision) for precision in wanted]


def _graph(sources: Sources, flavour: _Flavour, precision: Precision) -> Variant:
    """One graph, linted for every release it is meant for and compiled by the real TensorRT for RTX."""
    name = f"trt-{precision}" + ("-strong" if flavour.typing == "strong" else "")
    sources.on_step(f"TensorRT graph, {precision.upper()}, {flavour.typing}ly typed")
    model, kept = flavour.graph, dict[str, str]()
    if precision == "int8" and sources.calibration:
        skip = skip_list(model, sources.profile)
        kept = float_layers(model, skip)
        model = quantize(model, sources.calibration, skip)
    half = to_strong_fp16(model, sources.calibration) if precision != "fp32" else None
    if half is not None:
        kept |= {layer: f"FP32: {reason}" for layer, reason in half.float_layers.items() if layer not in kept}
    shipped = half.model if half and flavour.typing == "strong" else model
    dialects = tuple(dialect for dialect in flavour.dialects if precision != "int8" or dialect.qdq)
    for dialect in dialects:
        raise_on_errors(lint_graph(shipped, dialect, sm=sources.profile.sm))
    data = shipped.SerializeToString()
    sm = sources.profile.sm if sources.profile.sm in supported_sms() else _PROXY_SM
    check_and_build(data, str(sm))
    return _variant(sources, replace(flavour, dialects=dialects), precision, name, (data, kept, half))


def _variant(
    sources: Sources,
    flavour: _Flavour,
    precision: Precision,
    name: str,
    made: tuple[bytes, Mapping[str, str], Fp16Result | None],
) -> Variant:
    data, kept, half = made
    path = f"tensorrt/{name}.onnx"
    profile = sources.profile.model_copy(update={"tensorrt": flavour.dialects})
    opset = int(onnx.load_from_string(data).opset_import[0].version)
    recipe = build_recipe(
        profile, RecipeGraph(path, precision, flavour.typing, opset, INPUT_NAME, sources.clip.input_shape)
    )
    members: dict[str, tuple[Role, bytes]] = {
        path: ("graph", data),
        f"tensorrt/{name}.recipe.json": ("recipe", recipe_json(recipe).encode()),
    }
    for release in recipe["releases"]:
        script = trtexec_script(recipe, release["name"])
        members[f"tensorrt/{name}.{release['name']}.sh"] = ("other", script.encode())
    weak = flavour.typing == "weak"
    is_rtx = any(dialect.product == "tensorrt-rtx" for dialect in flavour.dialects)
    artifact = Artifact(
        name=name,
        kind="onnx",
        precision=precision,
        backends=("tensorrt-rtx", "tensorrt") if is_rtx else ("tensorrt",),
        members=tuple(members),
        requires={"tensorrt": "<11"} if weak else {} if is_rtx else {"tensorrt": ">=11"},
        float_layers=dict(kept),
        note=_note(half, weak),
    )
    graph = half.model.SerializeToString() if half and weak else None
    return Variant(artifact, members, "onnxruntime", checked_graph=graph, device=f"SM {profile.sm}")


def _note(half: Fp16Result | None, weak: bool) -> str:
    if half is None:
        return ""
    parts = []
    if half.largest_activation is not None:
        parts.append(f"largest activation {half.largest_activation:.3g} of 65504 on the calibration clips")
    if half.flushed_weights:
        parts.append(f"weights of {len(half.flushed_weights)} layers hold values FP16 rounds to zero")
    if weak:
        parts.append("parity is that of the strongly typed FP16 form of the same graph")
    return "; ".join(parts)


def _engine(variant: Variant, sm: str) -> Variant:
    graph = next(data for role, data in variant.members.values() if role == "graph")
    build = check_and_build(graph, sm)
    name = f"rtx-{variant.artifact.precision}-engine"
    path = f"engines/{name}.sm{sm.replace('.', '')}.engine"
    artifact = Artifact(
        name=name,
        kind="tensorrt-rtx-engine",
        precision=variant.artifact.precision,
        backends=("tensorrt-rtx",),
        members=(path,),
        requires={"sm": sm, "tensorrt-rtx": build.tensorrt_rtx_version},
        float_layers=variant.artifact.float_layers,
        note=f"built ahead of time from {variant.artifact.name}; executable code",
    )
    members: dict[str, tuple[Role, bytes]] = {path: ("engine", build.engine)}
    return Variant(artifact, members, None, built_from=variant.artifact.name, device=f"SM {sm}")
