"""Attention layers are recognized by their dataflow: in handwritten graphs and in every registered module."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgeact.export.graph.values import is_constant, name_of, operand
from edgeact.export.models.attention.registry import ATTENTIONS
from edgeact.export.quantize.exclude_attention import gate_layers
from edgeact.layer_reasons import ActivationProduct, AttentionGate
from tests.export.graph.exported import exported
from tests.export.graph.graphs import graph, node

SHAPE = (1, 8, 2, 4, 4)


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _bottleneck() -> list[onnx.NodeProto]:
    """Return a squeeze-and-excitation block of the activation `f`; the gate is `g`."""
    return [
        node("Conv", ["x", "wf"], ["f"], "backbone", kernel_shape=[1, 1, 1]),
        node("ReduceMean", ["f"], ["p"], axes=[2, 3, 4], keepdims=0),
        node("Gemm", ["p", "w1"], ["h"], "squeeze"),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w2"], ["e"], "excite"),
        node("Sigmoid", ["e"], ["s"]),
        node("Unsqueeze", ["s", "axes"], ["g"]),
    ]


_CONSTANTS: dict[str, Any] = {
    "wf": _weight(8, 8, 1, 1, 1),
    "wt": _weight(1, 8, 3, 3, 3),
    "w1": _weight(8, 2),
    "w2": _weight(2, 8),
    "axes": np.array([2, 3, 4], np.int64),
    "rows": np.array([8, 32], np.int64),
    "half": np.float32(0.5),
}
_GATED = node("Mul", ["f", "g"], ["y"])


def _gates(nodes: list[onnx.NodeProto]) -> set[str]:
    return set(gate_layers(graph(nodes, _CONSTANTS, shape=SHAPE)))


def test_a_bottleneck_is_a_gate_and_its_activations_are_not() -> None:
    assert _gates([*_bottleneck(), _GATED]) == {"squeeze", "excite"}


def test_a_residual_around_the_gate_changes_nothing() -> None:
    tail = [node("Mul", ["g", "f"], ["m"]), node("Mul", ["m", "half"], ["n"]), node("Add", ["f", "n"], ["y"])]
    assert _gates([*_bottleneck(), *tail]) == {"squeeze", "excite"}


def test_both_paths_of_a_sum_lead_to_the_gate() -> None:
    paths = [entry for entry in _bottleneck() if entry.op_type not in ("Sigmoid", "Unsqueeze")]
    peaks = [
        node("ReduceMax", ["f"], ["p2"], axes=[2, 3, 4], keepdims=0),
        node("Gemm", ["p2", "w1"], ["h2"], "squeeze 2"),
        node("Gemm", ["h2", "w2"], ["e2"], "excite 2"),
        node("Add", ["e", "e2"], ["sum"]),
        node("Sigmoid", ["sum"], ["s"]),
        node("Unsqueeze", ["s", "axes"], ["g"]),
    ]
    assert _gates([*paths, *peaks, _GATED]) == {"squeeze", "excite", "squeeze 2", "excite 2"}


@pytest.mark.parametrize(("weight", "gates"), [("wt", {"gate"}), ("wf", set())])
def test_a_convolution_as_large_as_the_activations_is_a_layer_like_others(weight: str, gates: set[str]) -> None:
    conv = node("Conv", ["f", weight], ["c"], "gate", kernel_shape=list(_CONSTANTS[weight].shape[2:]))
    conv.attribute.append(onnx.helper.make_attribute("auto_pad", "SAME_UPPER"))
    assert _gates([_bottleneck()[0], conv, node("Sigmoid", ["c"], ["g"]), _GATED]) == gates


def test_a_sigmoid_without_product_is_no_gate() -> None:
    """Scores, a swish, and a sigmoid that the next layer reads."""
    scores = [entry for entry in _bottleneck() if entry.op_type != "Unsqueeze"]
    scores[-1].output[0] = "y"
    assert _gates(scores) == set()
    assert _gates([_bottleneck()[0], node("Sigmoid", ["f"], ["g"]), _GATED]) == set()
    last = node("Conv", ["s", "wf"], ["y"], "last", kernel_shape=[1, 1, 1])
    assert _gates([_bottleneck()[0], node("Sigmoid", ["f"], ["s"]), last]) == set()


def test_queries_keys_and_products_of_self_attention_are_found_and_values_are_not() -> None:
    def projected(name: str) -> list[onnx.NodeProto]:
        conv = node("Conv", ["f", "wt" if name != "value" else "wf"], [f"c {name}"], name, kernel_shape=[1, 1, 1])
        return [conv, node("Reshape", [f"c {name}", "shape" if name != "value" else "rows"], [name])]

    constants = {**_CONSTANTS, "wt": _weight(4, 8, 1, 1, 1), "shape": np.array([4, 32], np.int64)}
    nodes = [
        _bottleneck()[0],
        *(entry for name in ("query", "key", "value") for entry in projected(name)),
        node("Transpose", ["query"], ["q"], perm=[1, 0]),
        node("MatMul", ["q", "key"], ["scores"], "scores"),
        node("Mul", ["scores", "half"], ["scaled"]),
        node("Softmax", ["scaled"], ["weights"], axis=-1),
        node("MatMul", ["value", "weights"], ["y"], "mix"),
    ]
    reasons = gate_layers(graph(nodes, constants, shape=SHAPE))
    assert reasons == {
        **dict.fromkeys(("query", "key"), AttentionGate()),
        **dict.fromkeys(("scores", "mix"), ActivationProduct()),
    }


# Layers of the backbone's size: the gate for every value, and the values of self-attention.
_LIKE_THE_BACKBONE = {"gate": ("conv",), "se-sa": ("h",)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_layers_of_every_module_remain_in_float(name: str) -> None:
    model = exported(f"cnn3d+{name}").graph
    weights = {entry.name: name_of(operand(entry, 1)) for entry in model.graph if entry.op_type in ("Conv", "Gemm")}
    layers = {layer: weight.split(".")[-2] for layer, weight in weights.items() if weight.startswith("gate.")}
    assert layers
    kept = {layer for layer, part in layers.items() if part not in _LIKE_THE_BACKBONE.get(name, ())}
    computed = [entry for entry in model.graph if not any(is_constant(value) for value in entry.inputs)]
    products = {entry.name for entry in computed if entry.op_type == "MatMul"}
    assert set(gate_layers(model)) == kept | products
    assert bool(products) == (name == "se-sa")
