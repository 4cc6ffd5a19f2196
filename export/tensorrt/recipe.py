"""Describe how a board's own TensorRT builds an engine of an exported graph: as data for the runtime, as a script.

Engines are bound to the board and its TensorRT, so they are built there. A recipe belongs to one graph and lists the
releases of the board that can build it:

* weak typing (8.x, 10.x): the FP32 graph; lower precisions are allowed by builder flags, except in `fp32_layers`;
* strong typing (11.x, 10.x on request): the FP16 graph states every type; precision flags must not be given, 11 has
  none.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgeact.devices import DeviceProfile, TensorRtDialect
from edgeact.errors import ConversionError, UnknownNameError
from edgeact.phrases import phrases
from edgeact.precision import Precision
from edgeact.reasons import ReleaseUnsuited
from edgeact.schema import StrictModel

__all__ = [
    "RECIPE_VERSION",
    "EngineRecipe",
    "RecipeGraph",
    "RecipeInput",
    "ReleaseRecipe",
    "build_recipe",
    "recipe_json",
    "trtexec_script",
    "unsuited",
]

RECIPE_VERSION = "1.0"

Typing = Literal["weak", "strong"]

_MIB = 1 << 20
_MIN_WORKSPACE_MIB, _MAX_WORKSPACE_MIB = 256, 4096
_MEMORY_SHARE = 8  # CPU, GPU and the builder itself share the memory of a Jetson
_UNPUBLISHED_OPSET = 20  # parsers of TensorRT 10 whose limit is not published read at least this opset
_HAS_MEMORY_POOLS = (8, 4)
_HAS_LAYER_PRECISIONS = (8, 4)
_TRTEXEC_SYNTAX = frozenset(":,'*")  # separators, quotes and the wildcard of trtexec's lists; it has no escapes
_OBEY = "OBEY_PRECISION_CONSTRAINTS"
_PRECISION_FLAGS: Mapping[Precision, tuple[str, ...]] = {"fp32": (), "fp16": ("fp16",), "int8": ("fp16", "int8")}


@dataclass(frozen=True)
class RecipeGraph:
    """The ONNX graph that a recipe is for."""

    member: str
    """Path of the graph in the bundle, e.g. 'tensorrt/master.onnx'."""
    precision: Precision
    typing: Typing
    """weak: FP32 graph, with Q/DQ if the precision is int8; strong: the FP16 form of that graph."""
    opset: int
    input_name: str
    input_shape: tuple[int, ...]
    fp32_layers: tuple[str, ...] = ()
    """ONNX nodes that must be computed in FP32: a setting of the recipe under weak typing, stated by the graph under
    strong typing."""

    @property
    def constrained_layers(self) -> tuple[str, ...]:
        """The layers that the recipe constrains to FP32."""
        return self.fp32_layers if self.typing == "weak" else ()

    @property
    def precision_flags(self) -> tuple[str, ...]:
        """The builder's precision flags in lower case."""
        return _PRECISION_FLAGS[self.precision] if self.typing == "weak" else ()


class RecipeInput(StrictModel):
    """The graph's input."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"


class ReleaseRecipe(StrictModel):
    """The settings for one TensorRT release of the board."""

    name: str
    """Name of the release in the board's profile, e.g. 'jetpack-6.2'."""
    tensorrt: str
    jetpack: str | None
    builder_flags: tuple[str, ...]
    """Names of `BuilderFlag`."""
    trtexec: tuple[str, ...]
    """Options of trtexec besides the paths."""
    expected_warnings: tuple[str, ...]
    """Warnings of the builder that are harmless."""


class EngineRecipe(StrictModel):
    """The settings with which a board builds the engine of one graph."""

    recipe_version: str = RECIPE_VERSION
    board: str
    sm: str | None
    graph: str
    """Path of the graph in the bundle."""
    precision: Precision
    typing: Typing
    fp32_layers: tuple[str, ...] | None = None
    """ONNX nodes to compute in FP32; None under strong typing."""
    opset: int
    input: RecipeInput
    workspace_mib: int
    releases: tuple[ReleaseRecipe, ...]
    not_for: Mapping[str, str]
    """Releases of the board that cannot build the graph -> reason."""


def build_recipe(profile: DeviceProfile, graph: RecipeGraph) -> EngineRecipe:
    """Return the recipe of a graph for a board.

    Raises ConversionError if no release of the board builds the graph, or if trtexec cannot express a layer's name.
    """
    _require_plain_names(graph.constrained_layers)
    supported = [dialect for dialect in profile.tensorrt if unsuited(dialect, graph) is None]
    reasons = phrases(
        {dialect.name: reason for dialect in profile.tensorrt if (reason := unsuited(dialect, graph)) is not None}
    )
    if not supported:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "the board has no TensorRT"
        raise ConversionError(
            f"{profile.title}: expected a TensorRT release that builds '{graph.member}' in {graph.precision}, got none "
            f"({listed}); choose another precision, or export with the opset of the release"
        )
    workspace_mib = _workspace_mib(profile)
    return EngineRecipe(
        board=profile.id,
        sm=profile.sm,
        graph=graph.member,
        precision=graph.precision,
        typing=graph.typing,
        fp32_layers=graph.fp32_layers if graph.typing == "weak" else None,
        opset=graph.opset,
        input=RecipeInput(name=graph.input_name, shape=graph.input_shape),
        workspace_mib=workspace_mib,
        releases=tuple(_release(dialect, graph, workspace_mib) for dialect in supported),
        not_for=reasons,
    )


def recipe_json(recipe: EngineRecipe) -> str:
    """Return the recipe as the text of the member 'recipe.json'; equal recipes give equal text."""
    document = recipe.model_dump(mode="json", exclude={"fp32_layers"} if recipe.fp32_layers is None else None)
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def trtexec_script(recipe: EngineRecipe, release: str) -> str:
    """Return a POSIX shell script that builds and times the engine with trtexec: `$1` the graph, `$2` the engine file.

    The script stops if the board has another TensorRT, and leaves no half-written engine behind.
    Raises UnknownNameError for a release that the recipe does not list.
    """
    entries = {entry.name: entry for entry in recipe.releases}
    if release not in entries:
        raise UnknownNameError("release of this recipe", release, entries)
    entry = entries[release]
    return _SCRIPT.format(
        board=recipe.board,
        graph=recipe.graph,
        precision=recipe.precision,
        release=release,
        version=entry.tensorrt,
        library=f"libnvinfer{entry.tensorrt.split('.')[0]}",
        warnings="".join(f"# expected, harmless: {line}\n" for line in entry.expected_warnings),
        options=" ".join(shlex.quote(option) for option in entry.trtexec),
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


def unsuited(dialect: TensorRtDialect, graph: RecipeGraph) -> ReleaseUnsuited | None:
    """Return why the release cannot build the graph, None if it can."""
    opset = dialect.max_opset or _UNPUBLISHED_OPSET
    if dialect.product != "tensorrt":
        return ReleaseUnsuited(requirement="tensorrt")
    if graph.opset > opset:
        return ReleaseUnsuited(requirement="opset", limit=str(opset), got=str(graph.opset))
    if dialect.typing not in (graph.typing, "either"):
        return ReleaseUnsuited(requirement="typing", limit=dialect.typing, got=graph.typing)
    if graph.precision == "int8" and not dialect.qdq:
        return ReleaseUnsuited(requirement="int8")
    if (layers := graph.constrained_layers) and dialect.release < _HAS_LAYER_PRECISIONS:
        return ReleaseUnsuited(requirement="layer-precision", got=layers[0])
    return None


def _require_plain_names(layers: tuple[str, ...]) -> None:
    for name in layers:
        if not name or not name.isprintable() or " " in name or _TRTEXEC_SYNTAX & set(name):
            raise ConversionError(
                f"layer {name!r}, kept in FP32: expected a name that trtexec can read, without spaces and "
                f"{' '.join(sorted(_TRTEXEC_SYNTAX))}, got {name!r}; rename the layer, or export in fp32"
            )


def _release(dialect: TensorRtDialect, graph: RecipeGraph, workspace_mib: int) -> ReleaseRecipe:
    constraint = (_OBEY,) if graph.constrained_layers else ()
    return ReleaseRecipe(
        name=dialect.name,
        tensorrt=dialect.version,
        jetpack=dialect.jetpack,
        builder_flags=(*(flag.upper() for flag in graph.precision_flags), *constraint),
        trtexec=_trtexec_options(dialect, graph, workspace_mib),
        expected_warnings=_expected_warnings(dialect, graph),
    )


def _trtexec_options(dialect: TensorRtDialect, graph: RecipeGraph, workspace_mib: int) -> tuple[str, ...]:
    options = [f"--{flag}" for flag in graph.precision_flags]
    if graph.typing == "strong" and dialect.typing == "either":
        options.append("--stronglyTyped")  # 11 has no other typing
    if graph.precision == "fp32":
        options.append("--noTF32")  # else Ampere and later GPUs round products to 10 bits
    if layers := ",".join(f"{name}:fp32" for name in graph.constrained_layers):
        options += ["--precisionConstraints=obey", f"--layerPrecisions={layers}", f"--layerOutputTypes={layers}"]
    has_pools = dialect.release >= _HAS_MEMORY_POOLS
    return (*options, f"--memPoolSize=workspace:{workspace_mib}" if has_pools else f"--workspace={workspace_mib}")


def _expected_warnings(dialect: TensorRtDialect, graph: RecipeGraph) -> tuple[str, ...]:
    warnings = []
    if dialect.release < (10, 0):
        warnings.append("INT64 weights are cast down to INT32 (shapes and axes only)")
    if graph.typing == "weak" and graph.precision == "int8":
        warnings.append("no calibrator is used (the ranges are in the Q/DQ nodes)")
    if graph.typing == "weak" and graph.precision != "fp32" and dialect.release >= (10, 12):
        warnings.append("precision flags are deprecated in favor of strong typing")
    return tuple(warnings)


def _workspace_mib(profile: DeviceProfile) -> int:
    """Return an eighth of the memory within limits: on boards of 4 GB the builder's workspace is the first to fail."""
    share = (profile.memory_bytes or 0) // _MIB // _MEMORY_SHARE
    return max(_MIN_WORKSPACE_MIB, min(_MAX_WORKSPACE_MIB, share))
