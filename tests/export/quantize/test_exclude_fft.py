"""Transforms and the layers between them are kept in float; layers before and behind them are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeact.devices import load_profile
from edgeact.export.graph.fft_matrices import Basis
from edgeact.export.graph.values import is_dequantized
from edgeact.export.quantize.activation_ranges import collect_ranges
from edgeact.export.quantize.exclude_fft import spectral_layers
from edgeact.export.quantize.exclusions import target_exclusions
from edgeact.export.quantize.qdq import float_layers, quantize
from edgeact.layer_reasons import FourierTransform, SpectralLayer
from tests.export.graph.exported import exported, random_clips
from tests.export.graph.graphs import graph, node

_FORWARD = Basis("rows", "forward", 2, 1)
_INVERSE = Basis("rows", "inverse", 2, 1)
_CONSTANTS = {
    _FORWARD.name: _FORWARD.matrix().numpy(),
    _INVERSE.name: _INVERSE.matrix().numpy(),
    "w": np.ones((3, 3, 1, 1), np.float32),
    "m": np.ones((5, 5), np.float32),
}


def _layers(*chain: str) -> list[onnx.NodeProto]:
    """Return a chain of nodes from 'x' to 'y' named by position: 'there' and 'back' are transforms, else operators."""
    constants = {"there": _FORWARD.name, "back": _INVERSE.name, "Conv": "w", "MatMul": "m"}
    nodes, name = [], "x"
    for index, what in enumerate(chain):
        output = "y" if index == len(chain) - 1 else f"t{index}"
        inputs = [name, *([constants[what]] if what in constants else [])]
        is_transform = what in ("there", "back")
        nodes.append(
            node("MatMul" if is_transform else what, inputs[::-1] if is_transform else inputs, [output], f"{index}")
        )
        name = output
    return nodes


@pytest.mark.parametrize(
    ("chain", "kept"),
    [
        (("Conv", "there", "Relu", "Conv", "MatMul", "back", "Conv"), "1345"),
        (("there", "back", "Conv", "there", "Conv", "back"), "01345"),
        (("Conv", "there", "Conv", "Relu", "MatMul"), "1"),
        (("Conv", "back", "Conv"), "1"),
        (("Conv", "MatMul"), ""),
    ],
    ids=" ".join,
)
def test_layers_between_a_transform_and_its_inverse(chain: tuple[str, ...], kept: str) -> None:
    model = graph(_layers(*chain), _CONSTANTS, shape=(1, 3, 4, 5))
    reasons = spectral_layers(model)
    assert reasons == {
        index: FourierTransform() if chain[int(index)] in ("there", "back") else SpectralLayer() for index in kept
    }


@pytest.mark.parametrize("name", ["msf-r3d-fsam", "cnn3d-gate"])
def test_models_without_transforms_have_no_spectral_layer(name: str) -> None:
    assert spectral_layers(exported(name).graph) == {}


@pytest.mark.slow
@pytest.mark.parametrize("board", ["cpu", "jetson"])
def test_no_transform_of_a_quantized_model_reads_int8(board: str) -> None:
    case = exported("3drfnet-18", width=16)
    excluded = target_exclusions(case.graph, load_profile(board))
    kept = float_layers(case.graph, excluded)
    # Twelve Fourier convolutions (two in each of six blocks of stages 1 to 3), each of four products and a convolution.
    assert list(kept.values()).count(FourierTransform()) == 48
    assert list(kept.values()).count(SpectralLayer()) == 12
    quantized = quantize(
        case.graph, collect_ranges(case.graph, random_clips(case.clip, 2), excluded=excluded), excluded
    )
    assert any(entry.op_type == "DequantizeLinear" for entry in quantized.graph)
    for entry in quantized.graph:
        if entry.name in spectral_layers(case.graph):
            assert not any(is_dequantized(value) for value in entry.inputs)
