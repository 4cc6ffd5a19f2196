"""How a board's own TensorRT makes an engine of an exported graph: as data for the runtime, as a script for people.

Engines are bound to the board and its TensorRT, so they are built there. A recipe belongs to one graph and lists the
releases of the board that can build it:

* weak typing (8.x, 10.x): the FP32 graph; lower precisions are allowed by builder flags, except in `fp32_layers`;
* strong typing (11.x, 10.x on request): the FP16 graph says all; precision flags must not be given, 11 has none.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any, Literal

from edgeact.devices import DeviceProfile, TensorRtDialect
from edgeact.errors import ConversionError, UnknownNameError
from edgeact.records import Precision

__all__ = ["RECIPE_VERSION", "RecipeGraph", "build_recipe", "recipe_json", "trtexec_script"]

RECIPE_VERSION = "1.0"

_MIB = 1 << 20
_MIN_WORKSPACE_MIB, _MAX_WORKSPACE_MIB = 256, 4096
_MEMORY_SHARE = 8  # CPU, GPU and the builder itself live in the same memory on a Jetson
_UNPUBLISHED_OPSET = 20  # parsers of TensorRT 10 whose limit is not published take at least this
_HAS_MEMORY_POOLS = (8, 4)
_HAS_LAYER_PRECISIONS = (8, 4)
_TRTEXEC_SYNTAX = frozenset(":,'*")  # separators, quotes and the wildcard of trtexec's lists; it has no escapes
_OBEY = "OBEY_PRECISION_CONSTRAINTS"
_PRECISION_FLAGS: dict[Precision, tuple[str, ...]] = {"fp32": (), "fp16": ("fp16",), "int8": ("fp16", "int8")}


@dataclass(frozen=True)
class RecipeGraph:
    """The ONNX graph a recipe is for."""

    member: str
    """Path of the graph in the bundle, e.g. 'tensorrt/master.onnx'."""
    precision: Precision
    typing: Literal["weak", "strong"]
    """weak: FP32 graph, with Q/DQ where the precision is int8; strong: the FP16 variant of it."""
    opset: int
    input_name: str
    input_shape: tuple[int, ...]
    fp32_layers: tuple[str, ...] = ()
    """ONNX nodes that must be computed in FP32; said by the recipe under weak typing, by the graph under strong."""


def build_recipe(profile: DeviceProfile, graph: RecipeGraph) -> dict[str, Any]:
    """The recipe as JSON-ready data: `typing`, `precision`, input, workspace, and one entry per release that builds it.

    Releases of the board that cannot take this graph are listed under `not_for` with the reason.
    Raises ConversionError where no release of the board takes it, or a layer's name cannot be told to trtexec.
    """
    _require_plain_names(_fp32_layers(graph))
    reasons = {dialect.name: _why_not(dialect, graph) for dialect in profile.tensorrt}
    taken = [dialect for dialect in profile.tensorrt if reasons[dialect.name] is None]
    if not taken:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "it has none"
        raise ConversionError(
            f"no TensorRT of {profile.title} builds '{graph.member}' in {graph.precision} ({told}); "
            "choose another precision, or export with the opset of the release"
        )
    workspace_mib = _workspace_mib(profile)
    typing = {"typing": graph.typing} | ({"fp32_layers": list(graph.fp32_layers)} if graph.typing == "weak" else {})
    return {
        "recipe_version": RECIPE_VERSION,
        "board": profile.id,
        "sm": profile.sm,
        "graph": graph.member,
        "precision": graph.precision,
        **typing,
        "opset": graph.opset,
        "input": {"name": graph.input_name, "shape": list(graph.input_shape), "dtype": "float32"},
        "workspace_mib": workspace_mib,
        "releases": [_release(dialect, graph, workspace_mib) for dialect in taken],
        "not_for": {name: reason for name, reason in reasons.items() if reason is not None},
    }


def recipe_json(recipe: dict[str, Any]) -> str:
    """The recipe as the text of the member 'recipe.json'; equal recipes give equal text."""
    return json.dumps(recipe, indent=2, sort_keys=True) + "\n"


def trtexec_script(recipe: dict[str, Any], release: str) -> str:
    """A POSIX shell script that builds and times the engine with trtexec; `$1` is the graph, `$2` the engine to write.

    It stops where the board has another TensorRT, and leaves no half-written engine behind.
    Raises UnknownNameError for a release the recipe does not list.
    """
    entries = {entry["name"]: entry for entry in recipe["releases"]}
    if release not in entries:
        raise UnknownNameError("release of this recipe", release, entries)
    entry = entries[release]
    options = " ".join(shlex.quote(option) for option in entry["trtexec"])
    warnings = "".join(f"# expected, harmless: {line}\n" for line in entry["expected_warnings"])
    return _SCRIPT.format(
        board=recipe["board"],
        graph=recipe["graph"],
        precision=recipe["precision"],
        release=release,
        version=entry["tensorrt"],
        library=f"libnvinfer{entry['tensorrt'].split('.')[0]}",
        warnings=warnings,
        options=options,
    )


_SCRIPT = """\
#!/bin/sh
# Builds the engine of {graph} ({precision}) for {board}, TensorRT {version} ({release}).
# Usage: sh build.sh GRAPH.onnx ENGINE
{warnings}set -eu
graph=$1
engine=$2
want={version}
have=$(dpkg-query -W -f='${{Version}}' {library} 2>/dev/null || true)
case "$have" in
  "$want"*) ;;
  *) echo "expected TensorRT $want ({library}), found '${{have:-none}}': use the script of that release" >&2; exit 1 ;;
esac
trtexec=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)
part=$engine.part
trap 'rm -f "$part"' EXIT
"$trtexec" --onnx="$graph" --saveEngine="$part" {options}
mv "$part" "$engine"
"""


def _why_not(dialect: TensorRtDialect, graph: RecipeGraph) -> str | None:
    """Why the release cannot build the graph, or None where it can."""
    limit = dialect.max_opset or _UNPUBLISHED_OPSET
    if dialect.product != "tensorrt":
        return "TensorRT for RTX takes engines built ahead of time, not recipes"
    if graph.opset > limit:
        return f"it reads ONNX opset {limit} at most, the graph has {graph.opset}"
    if dialect.typing not in (graph.typing, "either"):
        return f"its typing is {dialect.typing}, the graph is made for {graph.typing} typing"
    if graph.precision == "int8" and not dialect.qdq:
        return "it computes no INT8 on this GPU: use fp16"
    if (layers := _fp32_layers(graph)) and _number(dialect) < _HAS_LAYER_PRECISIONS:
        return f"its trtexec cannot keep single layers in FP32, and '{layers[0]}' must not be in FP16: use fp32"
    return None


def _fp32_layers(graph: RecipeGraph) -> tuple[str, ...]:
    return graph.fp32_layers if graph.typing == "weak" else ()


def _require_plain_names(layers: tuple[str, ...]) -> None:
    for name in layers:
        if not name or not name.isprintable() or " " in name or _TRTEXEC_SYNTAX & set(name):
            raise ConversionError(
                f"layer '{name}' must stay in FP32, but trtexec cannot be told so: expected a name without spaces and "
                f"{' '.join(sorted(_TRTEXEC_SYNTAX))}; rename the layer, or export in fp32"
            )


def _release(dialect: TensorRtDialect, graph: RecipeGraph, workspace_mib: int) -> dict[str, Any]:
    return {
        "name": dialect.name,
        "tensorrt": dialect.version,
        "jetpack": dialect.jetpack,
        "builder_flags": [flag.upper() for flag in _flags(graph)] + [_OBEY] * bool(_fp32_layers(graph)),
        "trtexec": _trtexec_options(dialect, graph, workspace_mib),
        "expected_warnings": _expected_warnings(dialect, graph),
    }


def _flags(graph: RecipeGraph) -> tuple[str, ...]:
    return _PRECISION_FLAGS[graph.precision] if graph.typing == "weak" else ()


def _trtexec_options(dialect: TensorRtDialect, graph: RecipeGraph, workspace_mib: int) -> list[str]:
    options = [f"--{flag}" for flag in _flags(graph)]
    if graph.typing == "strong" and dialect.typing == "either":
        options.append("--stronglyTyped")  # 11 knows nothing else
    if graph.precision == "fp32":
        options.append("--noTF32")  # else Ampere and later round products to 10 bits
    if layers := ",".join(f"{name}:fp32" for name in _fp32_layers(graph)):
        options += ["--precisionConstraints=obey", f"--layerPrecisions={layers}", f"--layerOutputTypes={layers}"]
    pools = _number(dialect) >= _HAS_MEMORY_POOLS
    return [*options, f"--memPoolSize=workspace:{workspace_mib}" if pools else f"--workspace={workspace_mib}"]


def _expected_warnings(dialect: TensorRtDialect, graph: RecipeGraph) -> list[str]:
    warnings = []
    if _number(dialect) < (10, 0):
        warnings.append("INT64 weights are cast down to INT32 (shapes and axes only)")
    if graph.typing == "weak" and graph.precision == "int8":
        warnings.append("no calibrator is used (the ranges are in the Q/DQ nodes)")
    if graph.typing == "weak" and graph.precision != "fp32" and _number(dialect) >= (10, 12):
        warnings.append("precision flags are deprecated in favour of strong typing")
    return warnings


def _number(dialect: TensorRtDialect) -> tuple[int, int]:
    major, minor = dialect.version.split(".")[:2]
    return int(major), int(minor)


def _workspace_mib(profile: DeviceProfile) -> int:
    """An eighth of the memory, within limits: on boards of 4 GB the builder's workspace is the first thing to fail."""
    share = (profile.memory_bytes or 0) // _MIB // _MEMORY_SHARE
    return max(_MIN_WORKSPACE_MIB, min(_MAX_WORKSPACE_MIB, share))
