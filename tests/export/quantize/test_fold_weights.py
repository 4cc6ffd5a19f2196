"""Folding weights into int8 constants changes the file, not the function."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edgeact.export.graph.proto import find_fault, to_bytes
from edgeact.export.graph.run import GraphRunner
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.graph.values import is_constant
from edgeact.export.models.registry import MODELS
from edgeact.export.models.spec import resized_clip
from edgeact.export.quantize.activation_ranges import collect_ranges
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq import quantize


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msf-r3d-fsam", "cnn3d-gate"])
def test_the_function_is_the_same_and_the_file_smaller(name: str) -> None:
    spec = MODELS[name]
    clip = resized_clip(spec.clip, clip_frames=4, size=32)
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(clip.input_shape, dtype=np.float32) for _ in range(4)]
    torch.manual_seed(0)
    model = to_onnx(spec.build(spec.config(5, width=16, clip=clip)), clip)
    quantized = quantize(model, collect_ranges(model, clips), {})
    folded = fold_weights(quantized)
    assert find_fault(folded) is None
    assert len(to_bytes(folded)) < 0.4 * len(to_bytes(quantized))
    assert not any(is_constant(node.inputs[0]) for node in folded.graph if node.op_type == "QuantizeLinear")
    for array in clips:
        assert np.array_equal(_run(quantized, array), _run(folded, array))


def _run(model: ir.Model, array: np.ndarray) -> np.ndarray:
    return GraphRunner(model).run(["logits"], {"clip": array})[0]
