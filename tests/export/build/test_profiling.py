"""Profiles of real graphs by the libraries that run them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgeact.bundle import Artifact
from edgeact.bundle.manifest import Role
from edgeact.export.build.profiling import profile_nodes
from edgeact.export.candidates.candidate import Candidate
from edgeact.export.graph.proto import to_bytes
from edgeact.layer_reasons import FloatReason
from edgeact.precision import Precision
from tests.export.cpu.native.making import integer
from tests.export.graph.graphs import graph, node

SHAPE = (1, 16, 4, 16, 16)
CLIP = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
CENTRED = {"kernel_shape": [3, 3, 3], "pads": [1] * 6}


def candidate(backend: str, precision: Precision, float_layers: Mapping[str, FloatReason] | None = None) -> Candidate:
    """A network of two convolutions with a turn of its channels between them."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.1, (16, 16, 3, 3, 3)).astype(np.float32) for name in ("w0", "w1")}
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "first", **CENTRED),
        node("Relu", ["a"], ["u"], "relu"),
        node("Split", ["u", "halves"], ["u1", "u2"], "split", axis=1),
        node("Concat", ["u2", "u1"], ["turned"], "join", axis=1),
        node("Conv", ["turned", "w1"], ["last"], "second", **CENTRED),
        node("ReduceMean", ["last"], ["pooled"], "mean", axes=[2, 3, 4]),
        node("Flatten", ["pooled"], ["y"], "flatten"),
    ]
    model = graph(nodes, {**weights, "halves": np.array([5, 11], np.int64)}, shape=SHAPE)
    data = to_bytes(integer(model, [CLIP]) if precision == "int8" else model)
    artifact = Artifact(
        name="it",
        kind="onnx",
        precision=precision,
        backends=(backend,),
        members=("it.onnx",),
    )
    members: dict[str, tuple[Role, bytes]] = {"it.onnx": ("graph", data)}
    return Candidate(artifact, members, backend, "it", precision, float_layers=float_layers or {})


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_every_node_that_runs_has_its_time_and_precision(backend: str) -> None:
    nodes = profile_nodes(candidate(backend, "fp32"), CLIP, 1)
    convolutions = [one for one in nodes if "Conv" in one.kind]
    assert len(convolutions) == 2
    assert {one.precision for one in convolutions} == {"f32"}
    assert all(one.ms > 0 for one in convolutions)
    assert any("Concat" in one.kind for one in nodes)


def test_openvinos_convolutions_run_in_int8() -> None:
    nodes = profile_nodes(candidate("openvino", "int8"), CLIP, 1)
    assert [one.precision for one in nodes if one.kind == "Convolution"] == ["i8", "i8"]


def test_a_library_without_a_profiler_says_nothing() -> None:
    assert profile_nodes(candidate("fake", "fp32"), CLIP, 1) == []
