"""A bundle of the form that edgeact exported before `avoid_saturation`: `python -m tests.export.build.old_form FILE`.

Its OpenVINO INT8 artifact has a signed clip and weights of 8 bits. Where the artifact was exported its kernels were
exact, and so are the logits that the bundle states; on a processor without VNNI they saturate, and OpenVINO 2026.4
quantizes the branches of a Split a second time on every processor.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeact.bundle.manifest import Role
from edgeact.export.build import DataPlan, Recipe, build
from edgeact.export.build.golden_clip import golden_of, with_golden_logits
from edgeact.export.build.pipeline import through
from edgeact.export.build.state import Build, Context
from edgeact.export.candidates.candidate import Candidate, TargetGraph
from edgeact.export.cpu.openvino import to_openvino
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.run import GraphRunner
from edgeact.export.graph.values import name_of
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.progress import Callbacks

__all__ = ["OLD", "RECIPE", "with_old_form", "write_old_form"]

OLD = "openvino-int8"
RECIPE = Recipe(
    target="cpu",
    precision="int8",
    data=DataPlan("stick-actions?train=48&val=8&test=24&seed=0", calibration_clips=32, evaluation_videos=24),
    threads=1,
)
"""The shipped model in INT8, with little data."""


def with_old_form(emitted: Build) -> Build:
    """Return an emitted build whose OpenVINO INT8 candidate has the old form."""
    graph = next(graph for graph in emitted.graphs if graph.label == "int8")
    candidates = [_old(candidate, graph) if candidate.name == OLD else candidate for candidate in emitted.candidates]
    return replace(emitted, candidates=tuple(candidates))


def write_old_form(out: Path, emitted: Build | None = None) -> Build:
    """Export the shipped model, and write the bundle with the old form and the logits that exact kernels compute.

    `emitted` is a build of RECIPE up to the stage 'emit', to go on from.
    """
    selected = build(emitted or RECIPE, through("select"))
    graph = next(graph for graph in selected.graphs if graph.label == "int8")
    exact = _exact_logits(graph, golden_of(selected, Context(Callbacks())).inputs)
    candidates = [
        with_golden_logits(each, exact) if each.name == OLD else each for each in with_old_form(selected).candidates
    ]
    shipped = (OLD, *(name for name in selected.shipped if name != OLD))
    return build(replace(selected, candidates=tuple(candidates), shipped=shipped), out=out)


def _old(candidate: Candidate, graph: TargetGraph) -> Candidate:
    xml, weights = to_openvino(to_bytes(fold_weights(graph.model)))
    (ir_path, weights_path) = candidate.artifact.members
    members: dict[str, tuple[Role, bytes]] = {ir_path: ("graph", xml), weights_path: ("weights", weights)}
    return replace(candidate, members=members)


def _exact_logits(graph: TargetGraph, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    model = fold_weights(graph.model)
    (source,), (output,) = model.graph.inputs, model.graph.outputs
    (logits,) = GraphRunner(model, threads=1).run([name_of(output)], {name_of(source): clip})
    return np.asarray(logits[0], np.float32)


if __name__ == "__main__":
    write_old_form(Path(sys.argv[1]))
