"""The worst case of every CPU artifact on every backend: all inputs and weights are the largest, so is every sum."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeact.clip import ClipSpec
from edgeact.devices import load_profile
from edgeact.export.build.measure import open_candidate
from edgeact.export.candidates.candidate import BuildInputs, Candidate, TargetGraph
from edgeact.export.cpu.candidates import cpu_candidates, cpu_graphs
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.progress import Callbacks
from edgeact.runtime import get_backend
from tests.export.graph.graphs import graph, node
from tests.export.quantize.making import as_written, for_openvino

CLIP = ClipSpec(clip_frames=4, fps=8.0, resize=(16, 16), crop=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CLASSES = 5
BACKENDS = ("openvino", "onnxruntime", "native")

Array = NDArray[np.float32]


def _weights(outputs: int, inputs: int, kernel: int) -> Array:
    """Return weights of equal magnitude, positive for even outputs and negative for odd outputs."""
    signs = np.where(np.arange(outputs) % 2, -1.0, 1.0).reshape(-1, 1, 1, 1, 1)
    return np.broadcast_to(signs, (outputs, inputs, kernel, kernel, kernel)).astype(np.float32)


LAYERS = {"dense": (32, 3, 1), "pointwise": (32, 1, 1), "grouped": (8, 3, 4), "depthwise": (1, 3, 32)}
"""Input channels of a weight, kernel size and groups of the layer that reads unsigned values."""


def _master(layer: str) -> ir.Model:
    """Return a convolution that reads the signed clip, the layer behind its ReLU, an average and a head."""
    inputs, kernel, groups = LAYERS[layer]
    constants = {
        "w0": _weights(32, 3, 3),
        "w1": _weights(32, inputs, kernel),
        "w2": _weights(CLASSES, 32, 1).reshape(CLASSES, 32),
        "b2": np.zeros(CLASSES, np.float32),
    }
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "signed", pads=[1] * 6),
        node("Relu", ["a"], ["ra"], "relu 1"),
        node("Conv", ["ra", "w1"], ["b"], layer, pads=[kernel // 2] * 6, group=groups),
        node("Relu", ["b"], ["rb"], "relu 2"),
        node("ReduceMean", ["rb"], ["e"], "average", axes=[2, 3, 4], keepdims=0),
        node("Gemm", ["e", "w2", "b2"], ["y"], "head", transB=1),
    ]
    model = graph(nodes, constants, shape=CLIP.input_shape, opset=17)
    model.graph.inputs[0].name, model.graph.outputs[0].name = "clip", "logits"
    return model


def _clips() -> list[Array]:
    """Return the largest clip, the smallest, and both mixed."""
    ones = np.ones(CLIP.input_shape, np.float32)
    mixed = np.random.default_rng(0).choice([-1.0, 1.0], CLIP.input_shape).astype(np.float32)
    return [ones, -ones, mixed]


def _emitted(layer: str) -> tuple[TargetGraph, dict[str, Candidate]]:
    master, clips = _master(layer), _clips()
    inputs = BuildInputs(
        master=master,
        clip=CLIP,
        profile=load_profile("cpu"),
        samples=clips,
        calibrator=Calibrator(master, clips),
        precisions=("int8",),
    )
    (quantized,) = cpu_graphs(inputs, None, Callbacks()).graphs
    candidates = cpu_candidates(inputs, (quantized,), Callbacks()).candidates
    return quantized, {candidate.artifact.backends[0]: candidate for candidate in candidates}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_largest_sums_are_exact(layer: str, backend: str) -> None:
    if reason := get_backend(backend).why_unavailable():
        pytest.skip(reason)
    quantized, candidates = _emitted(layer)
    if backend not in candidates:
        pytest.skip(f"{backend} does not run a {layer} convolution")
    model = for_openvino(quantized.model) if backend == "openvino" else fold_weights(quantized.model)
    clips = [*_clips(), *(3 * clip for clip in _clips())]  # and three times the calibrated range
    with open_candidate(candidates[backend], CLIP.input_shape, CLASSES, threads=1) as session:
        for clip in clips:
            expected = as_written(model, clip)
            np.testing.assert_allclose(
                session.run(clip).logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
            )
